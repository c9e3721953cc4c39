"""The files of reports on this machine's disk: looked at, hashed, and stored as attachments, a piece at a time."""

import hashlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from dispatcher import packing
from dispatcher.errors import FileFault, LedgerUnavailable
from dispatcher.filetype import HEAD_BYTES, misnamed
from dispatcher.interfaces import Blobs, Found
from dispatcher.report_job import ReportFile

_CHUNK = 1 << 20


class ReportFolder:
    """``interfaces.FileSource``. ``folders`` are where files may lie: None for anywhere (the command line,
    which reads its own user's files), empty for nowhere."""

    def __init__(self, blobs: Blobs, folders: Sequence[Path] | None) -> None:
        self._blobs = blobs
        self._folders = None if folders is None else [folder.resolve() for folder in folders]

    def look(self, folder: str | None, name: str) -> Found:
        path, given = self.confined(folder, name), PurePath(name).name
        try:
            regular = path.is_file()
        except OSError as error:  # in a folder that may be listed, and not entered
            raise FileFault("unreadable", name, f"cannot be read: {error.strerror}") from None
        if not regular:
            raise FileFault("unreadable", name, "is no file")
        with _read(name, path) as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            looked = _hashed(given, file)
        if fault := misnamed(given, head):
            raise FileFault("wrong type", name, fault)
        return Found(str(path), looked)

    def left_over(self, folder: str, used: Collection[str]) -> list[str]:
        top = self.confined(None, folder)
        if not top.is_dir():
            raise FileFault("missing", folder, "is no folder")
        try:
            there = [path for path in sorted(top.rglob("*")) if path.is_file() and not path.name.startswith(".")]
            return [str(path.relative_to(top)) for path in there if str(path.resolve()) not in used]
        except OSError as error:  # in a folder that may be listed, and not entered
            raise FileFault("unreadable", folder, f"{error.filename} cannot be read: {error.strerror}") from None

    def pack(self, files: Sequence[Found], name: str) -> Found | None:
        if not packing.shrinks(file.read(packing.HEAD_BYTES) for _, file in _opened(files)):
            return None
        try:
            with _archive(files) as archive:
                return Found("", _hashed(name, archive), tuple(files))
        except LedgerUnavailable:
            return None

    def store(self, found: Found) -> None:
        with _archive(found.packed) if found.packed else _read(found.path, Path(found.path)) as file:
            blob = self._blobs.put(file)
        if blob.id != found.file.sha256:
            raise FileFault("changed", found.path or found.file.name, "was changed after it was checked")

    def confined(self, folder: str | None, name: str) -> Path:
        """The file or folder of this name, with all links followed: within its folder, and one that is allowed. Raises
        FileFault."""
        if self._folders == []:
            raise FileFault("missing", name, "no file is read here: set DISPATCHER_ATTACHMENTS_DIRS")
        roots = [Path()] if self._folders is None else self._folders
        closed: PermissionError | None = None
        for root in roots:
            try:
                top = (root / (folder or "")).resolve()
                path = (top / name).resolve()
                inside = folder is None or path.is_relative_to(top)
                allowed = self._folders is None or any(path.is_relative_to(each) for each in self._folders)
                if inside and allowed and path.exists():
                    return path
            except PermissionError as error:  # perhaps it is in another one
                closed = error
            except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or links in a circle
                continue
        if closed is not None:
            raise FileFault("unreadable", name, f"cannot be read: {closed.strerror}")
        below = " below DISPATCHER_ATTACHMENTS_DIRS" if self._folders else ""
        raise FileFault("missing", name, f"is not there{below}" if folder is None else f"is not in {folder}{below}")


def _hashed(name: str, file: BinaryIO) -> ReportFile:
    """A file from where it stands to its end."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return ReportFile(name, digest.hexdigest(), size)


@contextmanager
def _read(name: str, path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise FileFault("unreadable", name, f"cannot be read: {error.strerror}") from None


@contextmanager
def _archive(files: Sequence[Found]) -> Iterator[BinaryIO]:
    """One of them, made in a file that has no name."""
    try:
        with tempfile.TemporaryFile() as made:
            packing.pack(_opened(files), made)
            made.seek(0)
            yield made
    except OSError as error:
        raise LedgerUnavailable(f"an archive of {files[0].path}: {error.strerror}") from error


def _opened(files: Sequence[Found]) -> Iterator[tuple[str, BinaryIO]]:
    for each in files:
        with _read(each.path, Path(each.path)) as file:
            yield each.file.name, file
