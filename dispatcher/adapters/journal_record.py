"""The bytes of a journal's records: a message that is begun, and what the server said of it.

A record stands behind its checksum and its length. The checksum also covers the number of the page's turn, so that
what is left over from an earlier turn is no record of this one.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from struct import Struct, unpack_from

from dispatcher.journal import Entry
from dispatcher.reply import NoReply, Phase, Reply, Result

_HEAD = Struct("<II")  # checksum, length of what follows
_BEGIN = Struct("<B32sQ32sII")  # kind, token, message, SHA-256 of its bytes, deliveries, refused
_REPLY = Struct("<BQddB")  # kind, message, at, seconds, length of the relay's name
_RESULT = Struct("<HBBBH")  # code (0: silence), phase, closed, lengths of enhanced code and text
_ID = Struct("<Q")
_IS_BEGIN, _IS_REPLY = 1, 2
_PHASES = tuple(Phase)
_PHASE_NUMBERS = {phase: number for number, phase in enumerate(_PHASES)}
_MAX_TEXT, _MAX_RELAY = 250, 255
REPLY_ROOM = _HEAD.size + _REPLY.size + _MAX_RELAY + _RESULT.size + 16 + _MAX_TEXT  # the longest reply record


def begin(
    token: str, message: int, sha256: str, deliveries: Sequence[int], refused: Sequence[tuple[int, Result]]
) -> bytes:
    """The payload of a begin."""
    ids = b"".join(map(_ID.pack, deliveries)) if len(deliveries) > 1 else _ID.pack(deliveries[0])
    head = _BEGIN.pack(_IS_BEGIN, token.encode(), message, bytes.fromhex(sha256), len(deliveries), len(refused))
    if not refused:
        return head + ids
    return head + ids + b"".join(_ID.pack(delivery) + _result(result) for delivery, result in refused)


def reply(message: int, at: float, seconds: float, relay: str, result: Result) -> bytes:
    """The payload of a reply."""
    name = relay.encode()[:_MAX_RELAY]
    return _REPLY.pack(_IS_REPLY, message, at, seconds, len(name)) + name + _result(result)


def framed(payload: bytes, turn: int) -> bytes:
    """The whole record."""
    return _HEAD.pack(zlib.crc32(payload, turn), len(payload)) + payload


def records(page: bytes, turn: int) -> Iterator[bytes]:
    """The payloads of a page in their order, up to the first place that holds no whole record of this turn."""
    place = 0
    while place + _HEAD.size <= len(page):
        checksum, length = _HEAD.unpack_from(page, place)
        payload = page[place + _HEAD.size : place + _HEAD.size + length]
        if not length or len(payload) < length or zlib.crc32(payload, turn) != checksum:
            return
        yield payload
        place += _HEAD.size + length


def length(page: bytes, turn: int) -> int:
    """How many bytes of a page its records take."""
    return sum(_HEAD.size + len(payload) for payload in records(page, turn))


def entries(page: bytes, turn: int) -> Iterator[Entry]:
    """What a page says of each message, as last begun."""
    found: dict[int, Entry] = {}
    for payload in records(page, turn):
        if payload[0] == _IS_BEGIN:
            entry = _read_begin(payload)
            if (before := found.get(entry.message)) is not None:
                yield before
            found[entry.message] = entry
        else:
            _read_reply(payload, found)
    yield from found.values()


def _read_begin(payload: bytes) -> Entry:
    _, token, message, sha256, count, refusals = _BEGIN.unpack_from(payload)
    deliveries = unpack_from(f"<{count}Q", payload, _BEGIN.size)
    refused, place = {}, _BEGIN.size + _ID.size * count
    for _ in range(refusals):
        (delivery,) = _ID.unpack_from(payload, place)
        refused[delivery], place = _read_result(payload, place + _ID.size)
    return Entry(token.rstrip(b"\0").decode("ascii"), message, deliveries, refused, sha256=sha256.hex())


def _read_reply(payload: bytes, found: dict[int, Entry]) -> None:
    _, message, at, seconds, length = _REPLY.unpack_from(payload)
    relay = payload[_REPLY.size : _REPLY.size + length].decode("utf-8", "replace")
    result, _ = _read_result(payload, _REPLY.size + length)
    if message in found:
        found[message] = replace(found[message], reply=result, relay=relay, at=at, seconds=seconds)


def _result(result: Result) -> bytes:
    phase = _PHASE_NUMBERS[result.phase]
    if isinstance(result, NoReply):
        text = result.reason.encode("utf-8", "replace")[:_MAX_TEXT]
        return _RESULT.pack(0, phase, result.closed, 0, len(text)) + text
    enhanced, text = (result.enhanced or "").encode()[:16], result.text.encode("utf-8", "replace")[:_MAX_TEXT]
    return _RESULT.pack(result.code, phase, 0, len(enhanced), len(text)) + enhanced + text


def _read_result(payload: bytes, place: int) -> tuple[Result, int]:
    code, phase, closed, enhanced_length, length = _RESULT.unpack_from(payload, place)
    place += _RESULT.size
    enhanced = payload[place : place + enhanced_length].decode("ascii", "replace") or None
    place += enhanced_length
    text = payload[place : place + length].decode("utf-8", "ignore")
    place += length
    if not code:
        return NoReply(_PHASES[phase], text, bool(closed)), place
    return Reply(code, text, enhanced, _PHASES[phase]), place
