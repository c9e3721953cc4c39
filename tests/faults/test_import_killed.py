"""An import that is killed: its version is nobody's, the one before stays, the next import is whole."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from dispatcher import audiences
from dispatcher.adapters.rows.file import of_file
from dispatcher.audience import UNREADY_SECONDS, AudienceVersion, BadRow, Member
from dispatcher.columns import ColumnMap
from dispatcher.errors import LedgerUnavailable, NotFound
from dispatcher.interfaces import Audiences
from dispatcher.kind import Kind
from tests.audiences import TYPES, Facts, write_csv
from tests.ledgers import ANNA, InSql
from tests.processes import kill
from tests.waiting import wait_for
from tests.zygote import clean, zygote

ROWS = 40_000
SAID = ColumnMap(kinds={name: Kind(kind) for name, kind in TYPES.items()})


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    return write_csv(tmp_path / "customers.csv", ROWS)


def sums(version: AudienceVersion) -> tuple[int, int, int, int]:
    return version.rows, version.kept, version.bad, version.doubled


def begun(store: Audiences, number: int) -> AudienceVersion | None:
    try:
        return store.by_id(number)
    except NotFound:
        return None


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def test_a_killed_import_leaves_what_was_and_the_next_one_is_whole(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, facts: Facts
) -> None:
    kept: InSql = request.getfixturevalue(f"{kind}_ledger")
    store = kept.ledger.audiences
    first = store.begin("customers", "by hand", (), ANNA)
    store.add(first.id, [Member(1, "a@example.com", "a@example.com", {})], [])
    before = store.ready(first.id, ANNA)
    arguments = ["audiences", "import", "customers", str(tmp_path / "customers.csv"), "--yes"]
    arguments += [word for name, kind in TYPES.items() for word in ("--type", f"{name}={kind}")]
    environment = clean(DISPATCHER_LEDGER_URL=kept.url, DISPATCHER_DATA_DIR=str(tmp_path / "var"))
    with Path("/dev/null").open("w") as nowhere:
        command = zygote().start(arguments, environment, output=nowhere, errors=nowhere)
        wait_for(lambda: (found := begun(store, first.id + 1)) and found.rows >= ROWS // 4, 30, every=0.005)
        kill(command.pid)
        assert command.poll(10) != 0
    broken = store.by_id(first.id + 1)
    assert broken.ready_at is None
    assert 0 < broken.rows < ROWS
    assert store.current("customers") == before
    made = audiences.import_(store, "customers", of_file(tmp_path / "customers.csv"), ANNA, said=SAID)
    assert (made.version, sums(made)) == (3, (facts.rows, facts.kept, facts.bad, facts.doubled))
    kept.age(UNREADY_SECONDS + 1)
    while store.forget(UNREADY_SECONDS, 5000):
        pass
    assert begun(store, broken.id) is None
    assert store.members(broken.id, 0, 10) == []
    assert store.current("customers").kept == facts.kept == sum(1 for _ in audiences.members(store, made))


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def test_a_ledger_that_goes_away_while_doubles_are_merged_loses_none(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: InSql = request.getfixturevalue(f"{kind}_ledger")
    store = kept.ledger.audiences
    version = store.begin("a", "by hand", (), ANNA)
    members = [Member(n, f"{n % 3}@example.com", f"{n % 3}@example.com", {}) for n in range(1, 7001)]
    store.add(version.id, members, [BadRow(7001, "", "bad", "")])
    found = store._doubles  # type: ignore[attr-defined]  # of the ledger in SQL

    def failing(number: int) -> Generator[list[BadRow]]:
        with closing(found(number)) as groups:
            yield next(groups)
            raise LedgerUnavailable("gone")

    monkeypatch.setattr(store, "_doubles", failing)
    with pytest.raises(LedgerUnavailable):
        store.ready(version.id, ANNA)
    assert sums(store.by_id(version.id)) == (7001, 5000, 1, 2000)
    with pytest.raises(NotFound):
        store.current("a")
    monkeypatch.undo()
    assert sums(store.ready(version.id, ANNA)) == (7001, 3, 1, 6997)
    assert [row[0] for row in store.members(version.id, 0, 10)] == [1, 2, 3]
