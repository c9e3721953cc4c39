"""The fields of a submission, one by one: what each may be, and the sentence for when it is not."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dispatcher.errors import SubmissionError
from dispatcher.written import encode

MAX_KEY = 256
MAX_TAGS, MAX_TAG = 32, 64
MAX_METADATA_BYTES = 8192
_YEARS = 1970, 2999

_TEXT = (
    "template",
    "locale",
    "from",
    "mail_from",
    "subject",
    "text",
    "html",
    "lane",
    "relay",
    "idempotency_key",
    "if_in_doubt",
    "list",
    "send_at",
    "expires_at",
)
_TEXTS = ("to", "cc", "bcc", "reply_to", "tags")
_OBJECTS = ("data", "headers", "metadata")
_LISTS = ("attachments", "recipients")
FIELDS = frozenset((*_TEXT, *_TEXTS, *_OBJECTS, *_LISTS))
_USUAL = {**dict.fromkeys(_OBJECTS, dict), **dict.fromkeys((*_TEXTS, *_LISTS), list)}  # the others are texts
RECIPIENT_FIELDS = frozenset(("to", "locale", "data", "metadata", "headers", "attachments"))
ATTACHMENT_FIELDS = frozenset(("path", "content", "blob", "filename", "content_type", "content_id", "version"))


def check_shape(document: Mapping[str, Any], known: frozenset[str], at: str) -> None:
    if not known.issuperset(document):
        unknown = next(name for name in document if name not in known)
        raise SubmissionError(f"{at}{unknown}", f"unknown field; known are {', '.join(sorted(known))}")
    for name, value in document.items():
        if at or type(value) is not _USUAL.get(name, str):
            _check_kind(name, value, at)
        if name in _TEXTS and not at:
            for n, text in enumerate(value):
                if not isinstance(text, str):
                    require(text, str, f"{name}[{n}]", "a string")


def _check_kind(name: str, value: Any, at: str) -> None:
    if name in _OBJECTS:
        require(value, Mapping, f"{at}{name}", "an object")
    elif name in _LISTS or (name in _TEXTS and not at):
        require(value, (list, tuple), f"{at}{name}", "a list")
    else:
        require(value, str, f"{at}{name}", "a string")


def check_json(document: Mapping[str, Any]) -> str:
    """Every value must be JSON that a ledger can keep. The one of ``data`` as it is written there."""
    data = "{}"
    for name, value in document.items():
        if name == "data":
            data = _written(name, value)
        elif not _is_plain(value):
            _written(name, value)
    return data


def _is_plain(value: Any) -> bool:
    """Whether it is ASCII text, or texts: most fields are, and need no encoder to be JSON."""
    if isinstance(value, str):
        return value.isascii()
    return isinstance(value, list) and all(isinstance(text, str) and text.isascii() for text in value)


def _written(name: str, value: Any) -> str:
    try:
        text = encode(value)
        if "\\ud" in text:  # the escape of a surrogate, which may lack its other half; or somebody's backslash
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SubmissionError(name, "is not UTF-8: it holds half of a surrogate pair") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise SubmissionError(name, f"cannot be written as JSON: {error}") from None
    return text


def require(value: Any, kind: type | tuple[type, ...], at: str, what: str) -> None:
    if not isinstance(value, kind):
        raise SubmissionError(at, f"must be {what}, not {kind_of(value)}")


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def choice(document: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = document.get(name, default)
    if value not in choices:
        raise SubmissionError(name, f"{value!r} is unknown; choose one of {', '.join(choices)}")
    return str(value)


def times(document: Mapping[str, Any]) -> tuple[float | None, float | None]:
    if "send_at" not in document and "expires_at" not in document:
        return None, None
    send_at, expires_at = (instant(document, name) for name in ("send_at", "expires_at"))
    if send_at is not None and expires_at is not None and expires_at <= send_at:
        raise SubmissionError("expires_at", "is not after send_at")
    return send_at, expires_at


def instant(document: Mapping[str, Any], name: str) -> float | None:
    if (text := document.get(name)) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SubmissionError(name, f"{text!r} is no ISO 8601 time such as 2026-12-01T09:00:00+08:00") from None
    if moment.tzinfo is None:
        raise SubmissionError(name, f"{text!r} has no offset: write 2026-12-01T09:00:00+08:00 or end it in Z")
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise SubmissionError(name, f"{text!r} is out of range: {_YEARS[0]} to {_YEARS[1]}")
    return moment.timestamp()


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def key_of(key: str | None) -> str | None:
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise SubmissionError("idempotency_key", f"must be 1 to {MAX_KEY} printable characters")
    return key


def tags_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    if "tags" not in document:
        return ()
    tags = tuple(dict.fromkeys(document["tags"]))
    if len(tags) > MAX_TAGS:
        raise SubmissionError("tags", f"more than {MAX_TAGS}")
    for n, tag in enumerate(tags):
        if not 0 < len(tag) <= MAX_TAG or not tag.isprintable():
            raise SubmissionError(f"tags[{n}]", f"must be 1 to {MAX_TAG} printable characters")
    return tags


def metadata_of(document: Mapping[str, Any], at: str) -> dict[str, Any]:
    metadata = dict(document.get("metadata", {}))
    if metadata and len(json.dumps(metadata)) > MAX_METADATA_BYTES:
        raise SubmissionError(at, f"over {MAX_METADATA_BYTES} bytes of JSON")
    return metadata
