"""Importing a source: what is kept, what is current, and what is said, on the ledger in memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dispatcher import audiences
from dispatcher.adapters.rows.file import of_file
from dispatcher.audience import BadRow, where
from dispatcher.audiences import Limit
from dispatcher.columns import ColumnMap
from dispatcher.errors import AudienceError, NotFound
from dispatcher.kind import Kind
from dispatcher.memory import MemoryLedger
from tests.audiences import HEADER, TYPES, ZONES, write_csv
from tests.ledgers import ANNA

SAID = ColumnMap(kinds={name: Kind(kind) for name, kind in TYPES.items()})


class Listed:
    """Rows from memory."""

    source = "here"
    details: dict[str, str] = {}  # noqa: RUF012 - it stays empty
    size: int | None = None
    done = 0

    def __init__(self, header: Sequence[str], *rows: Any) -> None:
        self.header, self._rows = header, rows

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        for n, row in enumerate(self._rows, 2):
            yield row if isinstance(row, BadRow) else (n, row)


def test_a_shops_file_comes_to_the_sums_that_are_known(tmp_path: Path) -> None:
    facts = write_csv(tmp_path / "a.csv", 5000)
    assert (facts.bad > 50, facts.doubled > 20, len(facts.suppressed) > 20) == (True, True, True)
    store, refused, committed = MemoryLedger().audiences, list[int](), list[int]()
    made = audiences.import_(
        store,
        "customers",
        of_file(tmp_path / "a.csv"),
        ANNA,
        said=SAID,
        refused=lambda row: refused.append(row.n),
        progress=committed.append,
    )
    assert (made.rows, made.kept, made.bad, made.doubled) == (facts.rows, facts.kept, facts.bad, facts.doubled)
    assert sum(committed) == 5000
    assert tuple(refused) == facts.bad_rows
    rejects = list(audiences.rejects(store, made))
    assert tuple(row.n for row in rejects if row.doubled) == facts.doubled_rows
    assert tuple(row.n for row in rejects if not row.doubled) == facts.bad_rows
    members = list(audiences.members(store, made))
    assert len(members) == facts.kept
    assert set(facts.suppressed) <= {member.address for member in members}
    for zone in ZONES:
        meant = where([f"time_zone={zone}"], made.columns)
        assert sum(1 for _ in audiences.members(store, made, meant)) == facts.zones[zone]


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    first, second = write_csv(tmp_path / "a.csv", 500, 7), write_csv(tmp_path / "b.csv", 500, 7)
    assert first == second
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert write_csv(tmp_path / "b.csv", 500, 8) != first


def test_a_preview_keeps_nothing_and_looks_at_a_thousand_rows(tmp_path: Path) -> None:
    facts = write_csv(tmp_path / "a.csv", 3000)
    found = audiences.preview(of_file(tmp_path / "a.csv"), SAID)
    assert [column.source for column in found.columns] == list(HEADER)
    assert found.rows == 1000 == len(found.members) + len(found.bad)
    assert [row.n for row in found.bad] == [n for n in facts.bad_rows if n <= 1001]


def test_a_preview_of_what_has_no_rows() -> None:
    found = audiences.preview(Listed(["email"]))
    assert (found.rows, found.members, found.bad) == (0, (), ())


@pytest.mark.parametrize(
    ("rows", "reason"),
    [((), "has no rows; nothing was changed"), ((["nobody"], ["x@@y"]), "none of its 2 rows could be kept")],
)
def test_what_has_no_member_leaves_the_version_before(rows: Any, reason: str) -> None:
    store = MemoryLedger().audiences
    before = audiences.import_(store, "a", Listed(["email"], ["a@example.com"]), ANNA)
    with pytest.raises(AudienceError, match=reason):
        audiences.import_(store, "a", Listed(["email"], *rows), ANNA)
    assert store.current("a") == before


def test_a_header_or_a_name_that_is_wrong_keeps_nothing() -> None:
    store = MemoryLedger().audiences
    with pytest.raises(AudienceError, match="same name"):
        audiences.import_(store, "a", Listed(["email", "a", "a"], ["a@example.com", "", ""]), ANNA)
    with pytest.raises(AudienceError, match="is no name"):
        audiences.import_(store, "a b", Listed(["email"], ["a@example.com"]), ANNA)
    assert store.list() == []


def test_an_import_that_breaks_off_leaves_the_version_before() -> None:
    store = MemoryLedger().audiences
    before = audiences.import_(store, "a", Listed(["email"], ["a@example.com"]), ANNA)

    class Breaking(Listed):
        def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
            for n in range(5000):
                yield n, [f"m{n}@example.com"]
            raise AudienceError("--sql", "the server is gone")

    with pytest.raises(AudienceError, match="the server is gone"):
        audiences.import_(store, "a", Breaking(["email"]), ANNA)
    assert store.current("a") == before
    with pytest.raises(NotFound):
        store.version("a", 2)


@pytest.mark.parametrize(("text", "bad", "changed"), [("2", 2, True), ("1", 2, False), ("0", 1, False), ("0", 0, True)])
def test_more_bad_rows_than_may_be_change_nothing(text: str, bad: int, changed: bool) -> None:
    check_limit(text, bad, changed)


@pytest.mark.parametrize(("text", "bad", "changed"), [("20%", 2, True), ("19%", 2, False), ("100%", 9, True)])
def test_a_greater_share_of_bad_rows_than_may_be_changes_nothing(text: str, bad: int, changed: bool) -> None:
    check_limit(text, bad, changed)


def check_limit(text: str, bad: int, changed: bool) -> None:
    """Of ten rows so many are bad, the first ones."""
    store = MemoryLedger().audiences
    rows = Listed(["email"], *(["nobody"] if n < bad else [f"m{n}@example.com"] for n in range(10)))
    if changed:
        assert audiences.import_(store, "a", rows, ANNA, most=Limit.parse(text)).bad == bad
        return
    with pytest.raises(AudienceError, match=r"--max-bad: .* nothing was changed"):
        audiences.import_(store, "a", rows, ANNA, most=Limit.parse(text))
    with pytest.raises(NotFound):
        store.current("a")


@pytest.mark.parametrize("text", ["", "x", "-1", "101%", "-1%", "%", "1.5"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError):
        Limit.parse(text)


def test_rows_that_a_source_could_not_read_are_bad_rows_of_the_audience() -> None:
    store = MemoryLedger().audiences
    rows = Listed(
        ["email"], ["a@example.com"], BadRow(3, "", "has a quote that is never closed", '"x'), ["A@example.com"]
    )
    made = audiences.import_(store, "a", rows, ANNA)
    assert (made.rows, made.kept, made.bad, made.doubled) == (3, 1, 1, 1)
    assert [row.n for row in audiences.rejects(store, made)] == [3, 4]
