"""A template as it was at one moment: its files, and the hash that names this very version of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """One version of a template, complete in itself.

    ``files`` maps a relative path (``subject.txt``, ``body.zh.html``, ``_layout/base.html``) to its text. ``digest`` is
    the SHA-256 (hex) of name and files as canonical JSON: equal digests render the same mails.
    """

    name: str
    files: Mapping[str, str] = field(repr=False, compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        document = {"name": self.name, "files": dict(self.files)}
        canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        object.__setattr__(self, "digest", hashlib.sha256(canonical.encode()).hexdigest())
