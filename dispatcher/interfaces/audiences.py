"""Where recipients come from, and what keeps them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from dispatcher.audience import Audience, AudienceVersion, BadRow, Column, Member
from dispatcher.delivery import Actor


class Rows(Protocol):
    """The rows of a source of recipients, read from its beginning, in flat memory.

    ``source``: what it is called; ``details``: what was found out about it, by name; ``size``: in bytes, if that is
    known, of which ``done`` have been read. Raises AudienceError where it cannot be read, when it is made or read.
    """

    source: str
    header: Sequence[str]
    details: Mapping[str, str]
    size: int | None

    @property
    def done(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        """The number of each row as people find it in the source, with its cells in the header's order; or what is
        wrong with a row that cannot be parted into cells. A cell is text, or what the source has: None, bool, int,
        float, Decimal, date, datetime."""
        ...


class Audiences(Protocol):
    """Lists of recipients in versions. Each method is one transaction, but for ``ready``; times are the ledger's."""

    def begin(self, name: str, source: str, columns: Sequence[Column], actor: Actor) -> AudienceVersion:
        """The next version of an audience, which is nobody's until it is ready."""
        ...

    def add(self, version_id: int, members: Sequence[Member], rejects: Sequence[BadRow]) -> None:
        """Rows of a version that is not ready, each number once. Raises NotFound for another one."""
        ...

    def ready(self, version_id: int, actor: Actor) -> AudienceVersion:
        """From now on it is its audience's current one. An act.

        Of members with the same address the first stays; the others are kept as rejects, ``doubled``. That is done in
        small transactions before. Raises NotFound for what is ready already.
        """
        ...

    def current(self, name: str) -> AudienceVersion:
        """The newest version that is ready. Raises NotFound naming the audiences that are called alike."""
        ...

    def version(self, name: str, number: int) -> AudienceVersion:
        """One that is ready. Raises NotFound."""
        ...

    def by_id(self, version_id: int) -> AudienceVersion:
        """Any version, ready or not. Raises NotFound."""
        ...

    def list(self) -> list[Audience]:
        """All audiences, by name."""
        ...

    def members(self, version_id: int, after: int, limit: int) -> Sequence[tuple[int, str, str, str]]:
        """Row number, address as it is compared, as it is shown, and the attributes as JSON text: those behind row
        ``after``, in their order."""
        ...

    def rejects(self, version_id: int, after: int, limit: int) -> Sequence[BadRow]:
        """Those behind row ``after``, in their order."""
        ...

    def drop(self, name: str, number: int | None, actor: Actor) -> int:
        """Give up one version, or all that are ready; how many. Their rows go with ``forget``. An act.

        Raises NotFound, and AudienceError while a campaign that is not over goes by one of them.
        """
        ...

    def forget(self, seconds: float, limit: int) -> int:
        """Remove up to so many rows of versions that were dropped, or were begun longer ago than that and are not
        ready; how many. A version goes when it has none left, an audience with its last version."""
        ...
