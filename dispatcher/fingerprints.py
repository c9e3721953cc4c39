"""Fingerprints of a submission's fields: equal for the same content, and kept in the ledger with its key."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dispatcher import fields
from dispatcher.mail import AcceptedMessage

_NOT_CONTENT = {
    "idempotency_key",
    "attachments",
    "recipients",
}  # of which the last two are looked at as they were understood
_SHORT = 100
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def fingerprints(
    document: Mapping[str, Any], shared: Mapping[str, Any], messages: Sequence[AcceptedMessage]
) -> dict[str, str]:
    """A short hash of each field as it was understood: spelling and order of keys do not count, bytes do.

    A template counts by its name, so that publishing a new version is no conflict for a producer that repeats itself.
    """
    content = {name: document[name] for name in fields.FIELDS - _NOT_CONTENT if document.get(name)}
    content |= {name: shared[name] for name in ("from", "mail_from", "reply_to") if name in shared}
    content |= {kind: messages[0].own[kind] for kind in ("to", "cc") if kind in content}
    if "bcc" in content:
        content["bcc"] = sorted(d.rcpt for d in messages[0].deliveries if d.kind == "bcc")
    if "attachments" in shared:
        content["attachments"] = [_comparable(a) for a in shared["attachments"]]
    if document.get("recipients"):
        content["recipients"] = [
            {
                **m.own,
                "data": item.get("data") or {},
                "attachments": [_comparable(a) for a in m.own.get("attachments", ())],
            }
            for m, item in zip(messages, document["recipients"], strict=True)
        ]
    return {name: _hash(value) for name, value in content.items()}


def _comparable(attachment: Mapping[str, Any]) -> dict[str, Any]:
    same = dict(attachment)
    if version := same.pop("version", None):
        same["blob"] = f"version {version}"
        same.pop("size")
    return same


def _hash(value: Any) -> str:
    if isinstance(value, str) and len(value) <= _SHORT:
        return _hash_of_short(value)
    return hashlib.blake2b(_encode(value).encode(), digest_size=9).hexdigest()


@lru_cache(maxsize=1024)
def _hash_of_short(text: str) -> str:
    """Of a template's name, a lane, a sender: few, and in every submission."""
    return hashlib.blake2b(_encode(text).encode(), digest_size=9).hexdigest()
