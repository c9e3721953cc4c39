"""Templates in folders on disk: one folder for each, shared layouts in folders whose names begin with ``_``."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from dispatcher.errors import ConfigurationError, TemplateError, UnknownTemplate
from dispatcher.names import suggested
from dispatcher.template import TemplateVersion

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIXES = (".txt", ".html", ".toml", ".css")
_LARGEST = 1 << 20  # bytes; Gmail clips a mail at a tenth of that

_Seen = tuple[tuple[str, int, int], ...]  # files and folders: path, mtime (ns), size


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
        self._loaded: dict[str, tuple[_Seen, TemplateVersion]] = {}

    def names(self) -> list[str]:
        """The templates that there are, sorted."""
        return sorted({name for root in self._roots for name in _folders(root) if _NAME.fullmatch(name)})

    def load(self, name: str) -> TemplateVersion:
        """The template as it is on disk now. Raises UnknownTemplate, TemplateError for a file that is no text."""
        known = self._loaded.get(name)
        if known is None or not _unchanged(known[0]):
            known = self._loaded[name] = self._read(name)
        return known[1]

    def _read(self, name: str) -> tuple[_Seen, TemplateVersion]:
        home = next((root / name for root in self._roots if _NAME.fullmatch(name) and (root / name).is_dir()), None)
        if home is None:
            raise UnknownTemplate("template", self._unknown(name))
        entries = list(_walk(home, ""))
        for root in self._roots:
            for layout in filter(lambda folder: folder.startswith("_"), _folders(root)):
                entries += _walk(root / layout, f"{layout}/")
        seen = tuple((path, *_stamp(path)) for path in {*map(str, self._roots), *(path for _, path in entries)})
        files: dict[str, str] = {}
        for file, path in entries:
            if file and file not in files:
                files[file] = _text(f"{name}/{file}", path)
        return seen, TemplateVersion(name, files)

    def _unknown(self, name: str) -> str:
        names = self.names()
        hint = suggested(name, names, f"there are {', '.join(names) or 'none'}")
        return f"no template is called {name[:100]!r}; {hint}"


def shipped() -> Path:
    """The folder of the templates that ship: within the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - at every submission; Path.stat takes twice the time
    return status.st_mtime_ns, status.st_size


def _unchanged(seen: _Seen) -> bool:
    """Whether nothing was written, added or removed since: a folder's time changes with its entries."""
    try:
        return all(_stamp(path) == (changed, size) for path, changed, size in seen)
    except OSError:
        return False


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, str]]:
    """A folder (its name left empty) and the template files below it: the path within the version, and where it is."""
    yield "", str(folder)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")
            elif entry.name.endswith(_SUFFIXES):
                yield f"{prefix}{entry.name}", entry.path


def _text(where: str, path: str) -> str:
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
