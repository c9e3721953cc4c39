"""What a producer handed over where nobody waits for an answer, and how an entry of the Redis stream, and a Celery
task, are read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcher.errors import MessageTooLarge, SubmissionError

FIELD, PRODUCER = "submission", "producer"
EVENT = "event"
TASK_DOOR, EVENT_DOOR = "task", EVENT  # the second: by which rejects that were events are known
MAX_KILLED = 3
MAX_BYTES = 8 * 1024 * 1024
MAX_PRODUCER = 256
Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Handed:
    """One submission that came through a door with nobody to answer to.

    ``reference`` is the producer's own number of it. ``payload`` is the text as it came, where the door has it, and
    ``error`` why the door itself refuses it; then ``document`` does not count.
    """

    document: Any
    reference: str
    producer: str = ""
    payload: str | None = None
    error: SubmissionError | None = None


def of_task(
    what: str, reference: str, args: Sequence[Any], kwargs: Mapping[str, Any], error: SubmissionError | None = None
) -> Handed:
    """A Celery task that takes ``what`` (a submission or an event) and the producer's name. One that is refused anyway,
    with this error, is not looked into."""
    given = dict(zip((what, PRODUCER), args, strict=False)) | dict(kwargs)
    producer = str(given.get(PRODUCER) or "")
    error = error or _wrong(what, given, args, producer)
    if len(producer) > MAX_PRODUCER or not producer.isprintable():
        producer = ""
    return Handed(given.get(what), reference, producer, error=error)


def _wrong(what: str, given: Mapping[str, Any], args: Sequence[Any], producer: str) -> SubmissionError | None:
    if unknown := sorted(given.keys() - {what, PRODUCER}) or args[2:]:
        return SubmissionError("", f"the task takes {what} and {PRODUCER}, not {unknown[0]}")
    if len(producer) > MAX_PRODUCER or not producer.isprintable():
        return SubmissionError(PRODUCER, f"must be up to {MAX_PRODUCER} printable characters")
    if what not in given:
        return SubmissionError(what, f"required: the task takes kwargs={{'{what}': {{...}}}}")
    return None


def killer(times: int) -> SubmissionError | None:
    """Why what killed its worker so often is not taken in."""
    return SubmissionError("", f"killed its worker {times} times") if times >= MAX_KILLED else None


def of_entry(reference: str, pairs: Pairs, error: SubmissionError | None = None) -> Handed:
    """An entry of the stream with its fields as they came, which may be any bytes and stand there twice. One that is
    refused anyway, with this error, is not looked into: that may be what it kills with."""
    try:
        given = _fields(pairs)
    except SubmissionError as found:
        return Handed(None, reference, payload=_written(pairs), error=error or found)
    text = given[FIELD].decode("utf-8", "backslashreplace")
    producer = given.get(PRODUCER, b"").decode()
    try:
        document = None if error else _document(given[FIELD])
    except SubmissionError as found:
        return Handed(None, reference, producer, text, found)
    return Handed(document, reference, producer, text, error)


def _fields(pairs: Pairs) -> dict[str, bytes]:
    names = [name.decode("utf-8", "backslashreplace") for name, _ in pairs]
    for name, count in Counter(names).items():
        if name not in (FIELD, PRODUCER):
            raise SubmissionError(name[:100], f"unknown field; an entry has {FIELD} and, if it likes, {PRODUCER}")
        if count > 1:
            raise SubmissionError(name, "stands in the entry more than once")
    if FIELD not in names:
        raise SubmissionError(FIELD, f"required: XADD mail:submissions * {FIELD} '{{...}}'")
    given = {name: value for name, (_, value) in zip(names, pairs, strict=True)}
    _check_producer(given.get(PRODUCER, b""))
    return given


def _check_producer(value: bytes) -> None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if len(text) > MAX_PRODUCER or not text.isprintable():
        raise SubmissionError(PRODUCER, f"must be up to {MAX_PRODUCER} printable characters")


def _document(raw: bytes) -> Any:
    """Raises SubmissionError with one line that says what is wrong and where."""
    if len(raw) > MAX_BYTES:
        raise MessageTooLarge(
            FIELD, f"is longer than {MAX_BYTES >> 20} MiB: hand large attachments over by another door"
        )
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SubmissionError(FIELD, f"is not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SubmissionError(FIELD, f"is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise SubmissionError(FIELD, "is not JSON that can be read: nested too deeply") from None
    except ValueError as error:  # such as a number of 5,000 digits
        raise SubmissionError(FIELD, f"is not JSON that can be read: {error}") from None


def _written(pairs: Pairs) -> str:
    """The whole entry: a list, since names may repeat."""
    return json.dumps(
        [[part.decode("utf-8", "backslashreplace") for part in pair] for pair in pairs], ensure_ascii=False
    )
