"""The seams by which files of reports come in: from a disk, from programs that make them, and by whose manifest."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from dispatcher.interfaces.audiences import Rows
from dispatcher.report_job import ReportFile


class Found(NamedTuple):
    """A file on disk as it was looked at: where, under which name it goes, and what is in it; or an archive of such
    files, which lies nowhere."""

    path: str
    file: ReportFile
    packed: tuple["Found", ...] = ()


class FileSource(Protocol):
    """Where the files of reports are read. Memory is that of one piece, however large a file is."""

    def look(self, folder: str | None, name: str) -> Found:
        """Read it once. Raises FileFault for one that is missing, unreadable, or not what its name says."""
        ...

    def pack(self, files: Sequence[Found], name: str) -> Found | None:
        """One archive of them, the same bytes whenever it is made; None where it would be hardly smaller, or there is
        no room to make it. Raises FileFault."""
        ...

    def left_over(self, folder: str, used: Collection[str]) -> list[str]:
        """The files in it, by their paths within, that are none of these ``Found.path``."""
        ...

    def store(self, found: Found) -> None:
        """Store it as an attachment. Raises FileFault when it is not what it was."""
        ...


class Renderers(Protocol):
    """The programs that make files, by the names that the settings give them."""

    @property
    def names(self) -> Collection[str]: ...

    def wanted(self, name: str) -> AbstractSet[str]:
        """The names of the values that this one cannot do without."""
        ...

    def render(self, name: str, filename: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a file and store it: an attachment as ``Accepted.shared`` has them. Raises RenderError."""
        ...


class ManifestSource(Protocol):
    """The manifests that workers read by themselves; each with the path that it is read from."""

    @property
    def names(self) -> Collection[str]:
        """Of the programs that make manifests."""
        ...

    def file(self, name: str) -> AbstractContextManager[tuple[Rows, str]]:
        """One that is a file. Raises FileFault, AudienceError."""
        ...

    def made(self, program: str, values: Mapping[str, Any]) -> AbstractContextManager[tuple[Rows, str]]:
        """One that this program makes. Raises RenderError, AudienceError."""
        ...
