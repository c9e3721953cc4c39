"""JSON as every ledger keeps it, written once: what was encoded to be checked need not be encoded again for its row."""

import json
from collections.abc import Mapping
from typing import Any

encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode  # ASCII: surrogates and NUL are escaped


class Written(dict[str, Any]):
    """An object that goes with its own JSON, ``text``. Nobody changes it: the text would not follow."""

    __slots__ = ("text",)

    def __init__(self, value: Mapping[str, Any], text: str | None = None) -> None:
        super().__init__(value)
        self.text = encode(value) if text is None else text
