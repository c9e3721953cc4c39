"""A Celery task as it lies in its queue on Redis: kombu's envelope around Celery's message protocol, version 2."""

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kombu.utils.json import loads

from dispatcher.errors import SubmissionError

# What asks Celery for more than to run a task now.
_OPTIONS = "eta", "expires", "group", "timelimit", "compression"
_EMBEDDED = "callbacks", "errbacks", "chain", "chord"
_ASKED_FOR = {"delivery_tag", "exchange", "routing_key"}  # kombu does, and its worker ends where there are none
_CODINGS: Mapping[Any, Callable[[str], bytes]] = {"base64": partial(base64.b64decode, validate=True), None: str.encode}
_UNREADABLE = ValueError, KeyError, TypeError, AttributeError, RecursionError


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A task that is to be run once, now, and for which nobody waits."""

    name: str
    id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    @classmethod
    def read(cls, raw: bytes, names: Collection[str]) -> "TaskMessage | None":
        """None for what is no plain task of one of these names: that is Celery's. Raises SubmissionError for what
        Celery could not read either, and would stumble over or drop."""
        headers, kind, body = _opened(raw)
        if headers.get("task") not in tuple(names) or _asks_more(headers, _OPTIONS):
            return None
        if kind != "application/json":
            raise SubmissionError("", f"is {kind}: only tasks in JSON are read")
        try:
            args, kwargs, embedded = loads(body.decode("utf-8"))  # with the dates and decimals that Celery writes
            own = headers["id"]
        except _UNREADABLE as error:
            raise SubmissionError("", f"cannot be read: {type(error).__name__}: {error}") from None
        if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(embedded, dict | None):
            raise SubmissionError("", "cannot be read: its body is not args, kwargs and options")
        if _asks_more(embedded or {}, _EMBEDDED):
            return None
        return cls(headers["task"], str(own), args, kwargs)


def _opened(raw: bytes) -> tuple[Mapping[str, Any], str, bytes]:
    """The headers, the content type and the body of what kombu can take out of a queue. Raises SubmissionError."""
    try:
        envelope = json.loads(raw)
        headers, properties, body = envelope["headers"], envelope["properties"], envelope["body"]
        if not {*properties, *properties["delivery_info"]} >= _ASKED_FOR:
            raise KeyError
        decode = _CODINGS[properties.get("body_encoding")]
        return dict(headers), str(envelope.get("content-type")), decode(body)
    except _UNREADABLE:
        raise SubmissionError("", "is no message of Celery's") from None


def _asks_more(options: Mapping[str, Any], known: Sequence[str]) -> bool:
    values = (options.get(name) for name in known)
    return any(value not in (None, [], [None, None]) for value in values)
