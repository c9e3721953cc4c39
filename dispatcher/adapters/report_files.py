"""The files of reports on this machine's disk: looked at, hashed, and stored as attachments, a piece at a time."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

from dispatcher.errors import FileFault
from dispatcher.filetype import HEAD_BYTES, misnamed
from dispatcher.interfaces import Blobs, Found
from dispatcher.report_job import ReportFile

_CHUNK = 1 << 20


class ReportFolder:
    """``interfaces.FileSource``. ``folders`` are where files may lie: None for anywhere (the command line,
    which reads its own user's files), empty for nowhere."""

    def __init__(self, blobs: Blobs, folders: Sequence[Path] | None, max_bytes: int) -> None:
        self._blobs, self._max = blobs, max_bytes
        self._folders = None if folders is None else [folder.resolve() for folder in folders]

    def look(self, folder: str | None, name: str) -> Found:
        path = self.confined(folder, name)
        try:
            size = path.stat().st_size
            if size > self._max:
                raise FileFault("too large", name, f"has {size:,} bytes; {self._max:,} are the most")
            digest, head, size = hashlib.sha256(), b"", 0
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    head = head or chunk[:HEAD_BYTES]
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise FileFault("unreadable", name, f"cannot be read: {error.strerror}") from None
        if fault := misnamed(path.name, head):
            raise FileFault("wrong type", name, fault)
        return Found(str(path), ReportFile(path.name, digest.hexdigest(), size))

    def left_over(self, folder: str, used: Collection[str]) -> list[str]:
        top = self.confined(None, folder)
        if not top.is_dir():
            raise FileFault("missing", folder, "is no folder")
        there = (path for path in sorted(top.rglob("*")) if path.is_file() and not path.name.startswith("."))
        return [str(path.relative_to(top)) for path in there if str(path) not in used]

    def store(self, found: Found) -> None:
        try:
            with Path(found.path).open("rb") as file:
                blob = self._blobs.put(file)
        except OSError as error:
            raise FileFault("unreadable", found.path, f"cannot be read: {error.strerror}") from None
        if blob.id != found.file.sha256:
            raise FileFault("changed", found.path, "was changed after it was checked")

    def confined(self, folder: str | None, name: str) -> Path:
        """The file or folder of this name, with all links followed: within its folder, and one that is allowed. Raises
        FileFault."""
        if self._folders == []:
            raise FileFault("missing", name, "no file is read here: set DISPATCHER_ATTACHMENTS_DIRS")
        roots = [Path()] if self._folders is None else self._folders
        for root in roots:
            try:
                top = (root / (folder or "")).resolve()
                path = (top / name).resolve()
                inside = folder is None or path.is_relative_to(top)
                allowed = self._folders is None or any(path.is_relative_to(each) for each in self._folders)
                if inside and allowed and path.exists():
                    return path
            except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or links in a circle
                continue
        raise FileFault("missing", name, "is not there" if folder is None else f"is not in {folder}")
