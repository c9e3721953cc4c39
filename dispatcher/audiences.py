"""Audiences as people use them: look at a source, import it as a new version, choose among its members.

    preview(rows)                     what each column would be, and what is wrong with the first 1,000 rows
    import_(audiences, name, rows)    a new version of an audience, which is current from then on
    members(audiences, version)       its members, those that a filter means

``audiences`` is ``Ledger.audiences``; rows come of ``dispatcher.adapters.rows``.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from dispatcher.audience import AudienceVersion, BadRow, Column, Filter, Member, checked_name
from dispatcher.columns import ColumnMap, Reading, columns
from dispatcher.delivery import Actor
from dispatcher.errors import AudienceError
from dispatcher.interfaces import Audiences, Rows
from dispatcher.written import Written

SAMPLE = 1000  # rows that are looked at before anything is kept
_CHUNK = 2000  # rows in one transaction
_PAGE = 5000
_AS_MAPPED = ColumnMap()


@dataclass(frozen=True, slots=True)
class Preview:
    """What the first rows of a source would become: ``rows`` = members + bad."""

    columns: tuple[Column, ...]
    rows: int
    members: tuple[Member, ...]
    bad: tuple[BadRow, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """How many bad rows an import may have: so many, or such a share of all its rows."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """``100`` or ``5%``. Raises ValueError."""
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if not 0 <= share <= 1:
                raise ValueError("is no share")
            return cls(share=share)
        count = int(text)
        if count < 0:
            raise ValueError("is no count")
        return cls(count=count)

    def check(self, bad: int, rows: int, *, over: bool) -> None:
        """Raises AudienceError. A share is known when all rows have been read (``over``)."""
        if self.count is not None and bad > self.count:
            raise AudienceError("--max-bad", f"more than {self.count:,} rows are bad; nothing was changed")
        if over and self.share is not None and bad > self.share * rows:
            raise AudienceError("--max-bad", f"{bad:,} of {rows:,} rows are bad; nothing was changed")


class _Source:
    """A source with its columns: found by its first rows, which are not read twice."""

    def __init__(self, rows: Rows, said: ColumnMap) -> None:
        self._rest = iter(rows)
        self._first = list(islice(self._rest, SAMPLE))
        sample = [found[1] for found in self._first if not isinstance(found, BadRow)]
        self.columns = columns(rows.header, said, sample, rows.source)
        self._reading = Reading(rows.header, self.columns)

    def first(self) -> Iterator[tuple[list[Member], list[BadRow]]]:
        """The first rows only."""
        return self._parted(iter(self._first))

    def __iter__(self) -> Iterator[tuple[list[Member], list[BadRow]]]:
        """All rows in groups, each parted into members and what is bad."""
        return self._parted(chain(self._first, self._rest))

    def _parted(
        self, rows: Iterator[tuple[int, Sequence[Any]] | BadRow]
    ) -> Iterator[tuple[list[Member], list[BadRow]]]:
        read = self._reading.member
        while group := list(islice(rows, _CHUNK)):
            members: list[Member] = []
            bad: list[BadRow] = []
            for row in group:
                found = row if isinstance(row, BadRow) else read(*row)
                if isinstance(found, BadRow):
                    bad.append(found)
                else:
                    members.append(found)
            yield members, bad


def preview(rows: Rows, said: ColumnMap = _AS_MAPPED) -> Preview:
    """Look at the first 1,000 rows; nothing is kept. Raises AudienceError."""
    source = _Source(rows, said)
    members, bad = next(source.first(), ([], []))
    return Preview(source.columns, len(members) + len(bad), tuple(members), tuple(bad))


def import_(
    audiences: Audiences,
    name: str,
    rows: Rows,
    actor: Actor,
    *,
    said: ColumnMap = _AS_MAPPED,
    most: Limit | None = None,
    refused: Callable[[BadRow], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> AudienceVersion:
    """Read all rows into a new version, which is the audience's current one when all are kept.

    ``refused`` hears of each bad row as it is met, ``progress`` how many rows were committed. Doubled addresses are
    known when the last row was read; see ``AudienceVersion.doubled``. Raises AudienceError where nothing can be kept
    or more is bad than ``most`` allows: then the version that was current is so still.
    """
    source = _Source(rows, said)
    version = audiences.begin(checked_name(name), rows.source, source.columns, actor)
    bad = count = 0
    for members, rejects in source:
        for each in rejects:
            refused(each)
        count, bad = count + len(members) + len(rejects), bad + len(rejects)
        if most is not None:
            most.check(bad, count, over=False)
        audiences.add(version.id, members, rejects)
        progress(len(members) + len(rejects))
    if most is not None:
        most.check(bad, count, over=True)
    if count == bad:
        what = f"none of its {count:,} rows could be kept" if count else "has no rows"
        raise AudienceError(rows.source, f"{what}; nothing was changed")
    return audiences.ready(version.id, actor)


def members(audiences: Audiences, version: AudienceVersion, meant: Filter | None = None) -> Iterator[Member]:
    """The members that a filter means, in the order of their rows, read page by page."""
    after = 0
    while page := audiences.members(version.id, after, _PAGE):
        for n, address, shown, text in page:
            attributes = Written(json.loads(text), text)
            if meant is None or meant(attributes):
                yield Member(n, address, shown, attributes)
        after = page[-1][0]


def rejects(audiences: Audiences, version: AudienceVersion) -> Iterator[BadRow]:
    """The rows that are no members, in their order, read page by page."""
    after = 0
    while page := audiences.rejects(version.id, after, _PAGE):
        yield from page
        after = page[-1].n
