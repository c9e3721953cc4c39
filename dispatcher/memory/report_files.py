"""Files and renderers of reports that are in memory."""

import hashlib
import io
import mimetypes
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

from dispatcher import packing
from dispatcher.errors import FileFault, RenderError
from dispatcher.filetype import misnamed
from dispatcher.interfaces import Blobs, Found, Rows
from dispatcher.report_job import ReportFile


class MemoryFiles:
    """``interfaces.FileSource`` of files by their paths, which a test may change."""

    def __init__(self, blobs: Blobs, files: Mapping[str, bytes] | None = None) -> None:
        self.files, self._blobs = dict(files or {}), blobs

    def look(self, folder: str | None, name: str) -> Found:
        path = name if folder is None else f"{folder}/{name}"
        if (content := self.files.get(path)) is None:
            raise FileFault("missing", name, "is not there" if folder is None else f"is not in {folder}")
        if fault := misnamed(name, content):
            raise FileFault("wrong type", name, fault)
        digest = hashlib.sha256(content).hexdigest()
        return Found(path, ReportFile(path.rpartition("/")[2], digest, len(content)))

    def left_over(self, folder: str, used: Collection[str]) -> list[str]:
        inside = f"{folder}/"
        return [
            path.removeprefix(inside) for path in sorted(self.files) if path.startswith(inside) and path not in used
        ]

    def pack(self, files: Sequence[Found], name: str) -> Found | None:
        if not packing.shrinks(self.files[each.path][: packing.HEAD_BYTES] for each in files):
            return None
        content = self._archive(files)
        return Found("", ReportFile(name, hashlib.sha256(content).hexdigest(), len(content)), tuple(files))

    def store(self, found: Found) -> None:
        content = self._archive(found.packed) if found.packed else self.files[found.path]
        if self._blobs.put(io.BytesIO(content)).id != found.file.sha256:
            raise FileFault("changed", found.path or found.file.name, "was changed after it was checked")

    def _archive(self, files: Sequence[Found]) -> bytes:
        made = io.BytesIO()
        packing.pack(((each.file.name, io.BytesIO(self.files[each.path])) for each in files), made)
        return made.getvalue()


class MemoryRenderers:
    """``interfaces.Renderers`` that are functions from values to content."""

    def __init__(
        self, blobs: Blobs, functions: Mapping[str, Callable[[Mapping[str, Any]], bytes]] | None = None
    ) -> None:
        self._blobs, self._functions = blobs, functions or {}

    @property
    def names(self) -> Collection[str]:
        return self._functions.keys()

    def wanted(self, name: str) -> AbstractSet[str]:  # noqa: ARG002 - a function takes what there is
        return set()

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
