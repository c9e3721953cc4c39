"""Documents that say by themselves whether they are ours: JSON with an HMAC-SHA256 over every byte of it.

A document is written in one way only, so that whoever reads it can write it again: where that is not the same, byte by
byte, something in it was changed.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dispatcher.errors import InvalidToken
from dispatcher.unsubscribe import key_id

_DOMAIN = b"dispatcher document 1\0"  # so that no other thing that the same key has signed can pass for one
_CHANGED = "it was changed since it was signed, or no key of ours has signed it"


def signed(document: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The document with its signature, by the first of the keys."""
    key = keys[0]
    return _written({**document, "signature": {"key": key_id(key), "hmac_sha256": _mac(document, key)}})


def read(text: str, keys: Sequence[str]) -> dict[str, Any]:
    """What was signed by one of these keys, without its signature. Raises InvalidToken."""
    try:
        whole = json.loads(text)
        signature = whole.pop("signature")
        said = str(signature["hmac_sha256"]).encode()
        whole_signature = signature.keys() == {"key", "hmac_sha256"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidToken("it is no signed document") from None
    if not whole_signature or _written({**whole, "signature": signature}) != text:
        raise InvalidToken(_CHANGED)
    for key in keys:
        if key_id(key) == signature.get("key") and hmac.compare_digest(said, _mac(whole, key).encode()):
            return dict(whole)
    raise InvalidToken(_CHANGED)


def _mac(document: Mapping[str, Any], key: str) -> str:
    return hmac.new(key.encode(), _DOMAIN + _written(document).encode(), hashlib.sha256).hexdigest()


def _written(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=True, indent=1) + "\n"
