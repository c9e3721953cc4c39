"""Unsubscribe tokens: who leaves which list, signed. They carry all that they say, and are never over.

    base64url( version | key id (4) | HMAC-SHA256 (first 16) | list NUL address )

A token outlives the mail that it stands in, its retention, and the rotation of keys, as long as the key that made it is
among those that verify. The same list and address under the same key make the same token, whoever makes it.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence

from dispatcher.errors import InvalidToken

PATH = "/unsubscribe/"
_VERSION = b"\x01"
_ID, _MAC = 4, 16
_BODY = 1 + _ID + _MAC  # where the list begins
_MAX = 1000  # bytes: the longest list and address make fewer


def key_id(key: str) -> str:
    """What names a key and tells nothing about it, in hexadecimal digits."""
    return hashlib.sha256(key.encode()).digest()[:_ID].hex()


def chosen(keys: Sequence[str], wanted: str) -> str:
    """The key of this id; the first one, which signs, when it is there no more."""
    return next((key for key in keys if key_id(key) == wanted), keys[0])


def token(address: str, list: str, key: str) -> str:  # noqa: A002 - the submission's field
    """By which this address leaves this list. It needs no escaping in a URL."""
    said = f"{list}\0{address}".encode()
    head = _VERSION + bytes.fromhex(key_id(key))
    return base64.urlsafe_b64encode(head + _mac(key, head + said) + said).decode().rstrip("=")


def read(token: str, keys: Iterable[str]) -> tuple[str, str]:
    """The address and the list. Raises InvalidToken for what none of these keys has signed, letter by letter."""
    raw = _decoded(token)
    head, mac, said = raw[: 1 + _ID], raw[1 + _ID : _BODY], raw[_BODY:]
    for key in keys:
        signed = _VERSION + bytes.fromhex(key_id(key)) == head
        if signed and hmac.compare_digest(mac, _mac(key, head + said)):
            name, _, address = said.decode().partition("\0")
            return address, name
    raise InvalidToken("the link was changed on its way, or no key of ours has signed it")


def _mac(key: str, said: bytes) -> bytes:
    return hmac.new(key.encode(), said, hashlib.sha256).digest()[:_MAC]


def _decoded(token: str) -> bytes:
    """Only as it was written: base64 has other ways to say the same bytes."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise InvalidToken("the link is not whole") from None
    if not _BODY < len(raw) <= _MAX or base64.urlsafe_b64encode(raw).decode().rstrip("=") != token:
        raise InvalidToken("the link is not whole")
    return raw
