"""A Celery task as it lies in its queue on Redis: kombu's envelope around Celery's message protocol, version 2."""

import base64
import binascii
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What asks Celery for more than to run a task now.
_OPTIONS = "eta", "expires", "group", "timelimit", "compression"
_EMBEDDED = "callbacks", "errbacks", "chain", "chord"


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A task that is to be run once, now, and for which nobody waits."""

    name: str
    id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    @classmethod
    def read(cls, raw: bytes, names: Collection[str]) -> "TaskMessage | None":
        """None for all that is not a plain task of one of these names: that is Celery's."""
        try:
            envelope = json.loads(raw)
            headers, properties = envelope["headers"], envelope["properties"]
            name, own = headers["task"], headers["id"]
            plain = name in names and envelope["content-type"] == "application/json"
            if not plain or properties.get("body_encoding") != "base64" or _asks_more(headers, _OPTIONS):
                return None
            args, kwargs, embedded = json.loads(base64.b64decode(envelope["body"], validate=True))
            if not isinstance(args, list) or not isinstance(kwargs, dict) or _asks_more(embedded or {}, _EMBEDDED):
                return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
            return None
        return cls(name, str(own), args, kwargs)


def _asks_more(options: Mapping[str, Any], known: Sequence[str]) -> bool:
    values = (options.get(name) for name in known)
    return any(value not in (None, [], [None, None]) for value in values)
