"""Attachments in a folder, by content: ``<folder>/<two digits>/<SHA-256>``."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dispatcher.errors import LedgerUnavailable, NotFound
from dispatcher.mail import Blob

_CHUNK = 1 << 20
_ID = re.compile(r"[0-9a-f]{64}")


class FileBlobs:
    """``interfaces.Blobs`` in a folder, which is made when something is put. Raises LedgerUnavailable when the disk
    is full or the folder is out of reach; what was being stored is not there then, not even in part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, stream: BinaryIO) -> Blob:
        digest, size = hashlib.sha256(), 0
        with self._in_our_words():
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
                        size += file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                self._keep(Path(name), self._path(digest.hexdigest()))
            finally:
                Path(name).unlink(missing_ok=True)
        return Blob(digest.hexdigest(), size)

    def get(self, blob: str) -> bytes:
        with self._found(blob) as path:
            return path.read_bytes()

    def size(self, blob: str) -> int:
        with self._found(blob) as path:
            return path.stat().st_size

    def _keep(self, new: Path, path: Path) -> None:
        """Give the file its name, and write the names down too: after a power cut a file is where its folder says."""
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            _sync(self._folder)
        new.replace(path)  # over the same bytes, if they were stored before
        _sync(path.parent)

    def _path(self, blob: str) -> Path:
        return self._folder / blob[:2] / blob

    @contextmanager
    def _found(self, blob: str) -> Iterator[Path]:
        if not _ID.fullmatch(blob):  # an id is never a way to another file
            raise NotFound(f"{blob[:80]!r} is no id of a stored attachment")
        with self._in_our_words():
            try:
                yield self._path(blob)
            except FileNotFoundError:
                raise NotFound(f"no stored attachment {blob}") from None

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerUnavailable(f"attachments in {self._folder}: {error.strerror or error}") from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
