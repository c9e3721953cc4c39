"""Files and renderers of reports that are in memory."""

import hashlib
import io
import mimetypes
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dispatcher.errors import FileFault, RenderError
from dispatcher.filetype import misnamed
from dispatcher.interfaces import Blobs, Found, Rows
from dispatcher.report_job import ReportFile


class MemoryFiles:
    """``interfaces.FileSource`` of files by their paths, which a test may change."""

    def __init__(self, blobs: Blobs, files: Mapping[str, bytes] | None = None, max_bytes: int = 1 << 20) -> None:
        self.files = dict(files or {})
        self._blobs, self._max = blobs, max_bytes

    def look(self, folder: str | None, name: str) -> Found:
        path = name if folder is None else f"{folder}/{name}"
        if (content := self.files.get(path)) is None:
            raise FileFault("missing", name, "is not there" if folder is None else f"is not in {folder}")
        if len(content) > self._max:
            raise FileFault("too large", name, f"has {len(content):,} bytes; {self._max:,} are the most")
        if fault := misnamed(name, content):
            raise FileFault("wrong type", name, fault)
        digest = hashlib.sha256(content).hexdigest()
        return Found(path, ReportFile(path.rpartition("/")[2], digest, len(content)))

    def left_over(self, folder: str, used: Collection[str]) -> list[str]:
        inside = f"{folder}/"
        return [
            path.removeprefix(inside) for path in sorted(self.files) if path.startswith(inside) and path not in used
        ]

    def store(self, found: Found) -> None:
        if self._blobs.put(io.BytesIO(self.files[found.path])).id != found.file.sha256:
            raise FileFault("changed", found.path, "was changed after it was checked")


class MemoryRenderers:
    """``interfaces.Renderers`` that are functions from values to content."""

    def __init__(
        self, blobs: Blobs, functions: Mapping[str, Callable[[Mapping[str, Any]], bytes]] | None = None
    ) -> None:
        self._blobs, self._functions = blobs, functions or {}

    @property
    def names(self) -> Collection[str]:
        return self._functions.keys()

    def render(self, name: str, filename: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        content = self._functions[name](values)
        if fault := misnamed(filename, content):
            raise RenderError(f"renderer {name}", f"has made {filename}, which {fault}")
        blob = self._blobs.put(io.BytesIO(content))
        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        return {"blob": blob.id, "size": blob.size, "filename": filename, "content_type": content_type}


class MemoryManifests:
    """``interfaces.ManifestSource`` of rows by name."""

    def __init__(self, rows: Mapping[str, Rows] | None = None) -> None:
        self.rows = dict(rows or {})

    @property
    def names(self) -> Collection[str]:
        return self.rows.keys()

    @contextmanager
    def file(self, name: str) -> Iterator[tuple[Rows, str]]:
        if name not in self.rows:
            raise FileFault("missing", name, "is not there")
        yield self.rows[name], name

    @contextmanager
    def made(self, program: str, values: Mapping[str, Any]) -> Iterator[tuple[Rows, str]]:  # noqa: ARG002 - they stand
        if program not in self.rows:
            raise RenderError(f"manifest {program}", "is not there")
        yield self.rows[program], program
