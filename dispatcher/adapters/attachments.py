"""Takes in the attachments of a submission: from a path, from base64, or one that is stored already."""

import base64
import binascii
import io
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dispatcher.errors import MessageTooLarge, NotFound, SubmissionError
from dispatcher.interfaces import Blobs
from dispatcher.mail import Blob
from dispatcher.mime import check_attachment


class Attachments:
    """Stores attachments by content. ``folders`` are where a ``path`` may lie: None for anywhere (the command line,
    which reads its own user's files), empty for nowhere."""

    def __init__(self, blobs: Blobs, folders: Sequence[Path] | None, max_bytes: int) -> None:
        self._blobs, self._max = blobs, max_bytes
        self._folders = None if folders is None else [folder.resolve() for folder in folders]

    def __call__(self, given: Mapping[str, Any], at: str) -> dict[str, Any]:
        """The stored form of one attachment, see ``Accepted.shared``. Raises SubmissionError naming the field."""
        filename = given.get("filename")
        if "path" in given:
            path = self._find(given["path"], f"{at}.path")
            filename = filename or path.name
            blob = self._read(path, f"{at}.path")
        elif "content" in given:
            blob = self._decode(given["content"], f"{at}.content")
        else:
            blob = self._stored(given["blob"], f"{at}.blob")
        if not filename and "content_id" not in given:
            raise SubmissionError(f"{at}.filename", "required for an attachment that is neither a path nor inline")
        content_type = (
            given.get("content_type") or mimetypes.guess_type(filename or "")[0] or "application/octet-stream"
        )
        check_attachment(content_type, filename, given.get("content_id"), at)
        stored = {"blob": blob.id, "size": blob.size, "content_type": content_type}
        stored |= {"filename": filename} if filename else {}
        return stored | {name: given[name] for name in ("content_id", "version") if name in given}

    def _find(self, text: str, at: str) -> Path:
        """The file, with all links followed, inside one of the folders."""
        if self._folders is None:
            candidates = [Path(text)]
        elif not self._folders:
            raise SubmissionError(
                at, "a path is not read here: send content (base64) or blob, or set DISPATCHER_ATTACHMENTS_DIRS"
            )
        else:
            candidates = [folder / text for folder in self._folders]
        for candidate in candidates:
            try:
                path = candidate.resolve()
                inside = self._folders is None or any(path.is_relative_to(folder) for folder in self._folders)
                if inside and path.is_file():
                    return path
            except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or links in a circle
                continue
        where = "" if self._folders is None else " inside DISPATCHER_ATTACHMENTS_DIRS"
        raise SubmissionError(at, f"no file {text!r}{where}")

    def _read(self, path: Path, at: str) -> Blob:
        try:
            if path.stat().st_size > self._max:
                raise MessageTooLarge(at, f"{path.name} is over the limit of {self._max:,} bytes")
            with path.open("rb") as stream:
                return self._blobs.put(stream)
        except OSError as error:
            raise SubmissionError(at, f"cannot be read: {error.strerror}") from None

    def _decode(self, text: str, at: str) -> Blob:
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise SubmissionError(at, "is not base64") from None
        if len(content) > self._max:
            raise MessageTooLarge(at, f"is over the limit of {self._max:,} bytes")
        return self._blobs.put(io.BytesIO(content))

    def _stored(self, blob: str, at: str) -> Blob:
        try:
            return self._blobs.touch(blob)
        except NotFound:
            raise SubmissionError(at, f"no stored attachment {blob!r}") from None
