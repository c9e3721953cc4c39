"""Attachments in a folder, by content: ``<folder>/<two digits>/<SHA-256>``; and on their way from there."""

import fcntl
import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from dispatcher.errors import LedgerUnavailable, NotFound
from dispatcher.interfaces import Blobs
from dispatcher.mail import Blob

_Found = TypeVar("_Found")
_CHUNK = 1 << 20
_ID = re.compile(r"[0-9a-f]{64}")


class FileBlobs:
    """``interfaces.Blobs`` in a folder, which is made when something is put. Raises LedgerUnavailable when the disk
    is full or the folder is out of reach; what was being stored is not there then, not even in part.

    A file's time of change says when it was put last. Whoever puts shares the folder's lock, whoever removes has it
    alone: so what was just put is never what is removed.
    """

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

    def touch(self, blob: str) -> Blob:
        with self._found(blob) as path, self._locked(fcntl.LOCK_SH):
            os.utime(path)
            return Blob(blob, path.stat().st_size)

    def get(self, blob: str) -> bytes:
        with self._found(blob) as path:
            return path.read_bytes()

    def old(self, seconds: float, *, after: str = "", limit: int = 500) -> list[str]:
        before = time.time() - seconds
        with self._in_our_words():
            return list(islice((path.name for path in self._listed(after) if _put_at(path) <= before), limit))

    def remove(self, blob: str, seconds: float) -> bool:
        try:
            with self._found(blob) as path, self._locked(fcntl.LOCK_EX):
                if path.stat().st_mtime > time.time() - seconds:
                    return False
                path.unlink()
        except NotFound:
            return True
        return True

    def _keep(self, new: Path, path: Path) -> None:
        """Give the file its name, and write the names down too: after a power cut a file is where its folder says."""
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            _sync(self._folder)
        with self._locked(fcntl.LOCK_SH):
            os.utime(new)
            new.replace(path)  # over the same bytes, if they were stored before
        _sync(path.parent)

    def _path(self, blob: str) -> Path:
        return self._folder / blob[:2] / blob

    def _listed(self, after: str) -> Iterator[Path]:
        """All that is stored, in the order of the ids, from behind one of them."""
        for folder in sorted(self._folder.glob("[0-9a-f][0-9a-f]")):
            if folder.name >= after[:2]:
                yield from sorted(path for path in folder.iterdir() if path.name > after and _ID.fullmatch(path.name))

    @contextmanager
    def _found(self, blob: str) -> Iterator[Path]:
        with self._in_our_words():
            try:
                yield self._path(checked(blob))
            except FileNotFoundError:
                raise NotFound(f"no stored attachment {blob}") from None

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """The lock of the whole folder. A file of its own: folders cannot be locked on every file system."""
        handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerUnavailable(f"attachments in {self._folder}: {error.strerror or error}") from error


class MovingBlobs:
    """``interfaces.Blobs`` in a store. What is missing there is looked for in ``before``, where the release before kept
    it, and put into the store: so from then on every server finds it."""

    def __init__(self, store: Blobs, before: Blobs) -> None:
        self._store, self._before = store, before
        self.put, self.old, self.remove = store.put, store.old, store.remove

    def touch(self, blob: str) -> Blob:
        return self._moved(blob, self._store.touch)

    def get(self, blob: str) -> bytes:
        return self._moved(blob, self._store.get)

    def _moved(self, blob: str, act: Callable[[str], _Found]) -> _Found:
        try:
            return act(blob)
        except NotFound:
            self._store.put(io.BytesIO(self._before.get(blob)))
        return act(blob)  # what was no longer the bytes of this id is not found here either


def checked(blob: str) -> str:
    """The id, if it can be one: it is never a way to another file. Raises NotFound."""
    if not _ID.fullmatch(blob):
        raise NotFound(f"{blob[:80]!r} is no id of a stored attachment")
    return blob


def _put_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed just now, by another
        return float("inf")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
