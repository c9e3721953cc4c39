"""The body of a POST: a form as browsers send it, and as mail clients do (RFC 8058 section 3.2)."""

from email import message_from_bytes, policy
from typing import Any
from urllib.parse import parse_qsl

MAX_BYTES = 64 * 1024
_MAX_FIELDS = 20


class TooLarge(Exception):
    """Nobody leaves a list in so many words."""


class Unreadable(Exception):
    """It is no form."""


def fields(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Its fields in their order, names and values. Raises TooLarge, Unreadable."""
    content, kind = _read(environ), environ.get("CONTENT_TYPE", "")
    if kind.partition(";")[0].strip().lower() == "multipart/form-data":
        return _parts(content, kind)
    try:
        return parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:  # not UTF-8, or too many
        raise Unreadable from None


def _read(environ: dict[str, Any]) -> bytes:
    given = environ.get("CONTENT_LENGTH") or "0"
    if not (given.isascii() and given.isdigit()):
        raise Unreadable
    if int(given) > MAX_BYTES:
        raise TooLarge
    content: bytes = environ["wsgi.input"].read(int(given))
    return content


def _parts(content: bytes, kind: str) -> list[tuple[str, str]]:
    whole = message_from_bytes(b"Content-Type: %s\r\n\r\n%s" % (kind.encode("latin-1"), content), policy=policy.HTTP)
    found = []
    for part in whole.iter_parts() if whole.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            found.append((name, value.decode("utf-8", "replace")))
    if not found:
        raise Unreadable
    return found
