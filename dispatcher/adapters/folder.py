"""Templates in folders on disk: one folder for each, shared layouts in folders whose names begin with ``_``."""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from dispatcher.errors import ConfigurationError, TemplateError, UnknownTemplate
from dispatcher.template import TemplateVersion

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIXES = (".txt", ".html", ".toml", ".css")
_LARGEST = 1 << 20  # bytes; Gmail clips a mail at a tenth of that

# Of each file: its path within the version, where it is, and what changes when it is written.
_Listing = tuple[tuple[str, str, int, int], ...]


class TemplateFolder:
    """The templates of several folders; the first that has a template of a name, or a layout file, wins.

    A file that is written is seen by the next ``load``; one that is not costs a ``stat``. Raises
    ConfigurationError for a root that is no folder.
    """

    def __init__(self, *roots: Path) -> None:
        for root in roots:
            if not root.is_dir():
                raise ConfigurationError("templates_dir", f"{root} is no folder that can be read")
        self._roots = roots
        self._loaded: dict[str, tuple[_Listing, TemplateVersion]] = {}

    def names(self) -> list[str]:
        """The templates that there are, sorted."""
        return sorted({name for root in self._roots for name in _folders(root) if _NAME.fullmatch(name)})

    def load(self, name: str) -> TemplateVersion:
        """The template as it is on disk now. Raises UnknownTemplate, TemplateError for a file that is no text."""
        listing = self._listing(name)
        known = self._loaded.get(name)
        if known is None or known[0] != listing:
            files = {relative: _read(f"{name}/{relative}", path) for relative, path, _, _ in listing}
            known = self._loaded[name] = (listing, TemplateVersion(name, files))
        return known[1]

    def _listing(self, name: str) -> _Listing:
        home = next((root / name for root in self._roots if _NAME.fullmatch(name) and (root / name).is_dir()), None)
        if home is None:
            raise UnknownTemplate("template", self._unknown(name))
        found: dict[str, tuple[str, str, int, int]] = {}
        for root in self._roots:
            for layout in _folders(root):
                if layout.startswith("_"):
                    for entry in _files(root / layout, f"{layout}/"):
                        found.setdefault(entry[0], entry)
        found.update((entry[0], entry) for entry in _files(home, ""))
        return tuple(sorted(found.values()))

    def _unknown(self, name: str) -> str:
        names = self.names()
        near = get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}"
        return f"no template is called {name[:100]!r}; {hint}"


def shipped() -> Path:
    """The folder of the templates that ship: within the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.name.endswith(_SUFFIXES):
                status = entry.stat()
                yield f"{prefix}{entry.name}", entry.path, status.st_mtime_ns, status.st_size


def _read(where: str, path: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise TemplateError(where, f"cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise TemplateError(where, f"is larger than {_LARGEST >> 20} MB")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise TemplateError(f"{where}:{line}", "is not UTF-8") from None
