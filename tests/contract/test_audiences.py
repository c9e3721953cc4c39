"""What every ledger promises of audiences: versions that are whole or nobody's, and sums that balance."""

import json
import threading
from collections.abc import Sequence

import pytest

from dispatcher.audience import AudienceVersion, BadRow, Column, Kind, Member
from dispatcher.errors import NotFound
from dispatcher.written import Written
from tests.ledgers import ANNA, DAY, Kept

COLUMNS = (
    Column("email", Kind.ADDRESS, "E-Mail"),
    Column("name", Kind.TEXT, "姓名"),
    Column("age", Kind.NUMBER, "Age"),
)


def member(n: int, address: str = "", **attributes: object) -> Member:
    address = address or f"m{n}@example.com"
    return Member(n, address, f"Anna <{address}>", attributes)


def begun(kept: Kept, name: str = "customers") -> AudienceVersion:
    return kept.ledger.audiences.begin(name, "customers.csv", COLUMNS, ANNA)


def imported(
    kept: Kept, members: Sequence[Member], bad: Sequence[BadRow] = (), name: str = "customers"
) -> AudienceVersion:
    version = begun(kept, name)
    kept.ledger.audiences.add(version.id, members, bad)
    return kept.ledger.audiences.ready(version.id, ANNA)


def sums(version: AudienceVersion) -> tuple[int, int, int, int]:
    return version.rows, version.kept, version.bad, version.doubled


def test_a_version_is_kept_whole(kept: Kept) -> None:
    audiences = kept.ledger.audiences
    made = imported(kept, [member(2, name="李雷", age=7), member(4)], [BadRow(3, "age", "'x' is no number", "{}")])
    assert sums(made) == (3, 2, 1, 0)
    assert (made.name, made.version, made.source, made.actor) == ("customers", 1, "customers.csv", "anna@desk-7")
    assert made.columns == COLUMNS
    assert made.attributes == COLUMNS[1:]
    assert made.ready_at is not None
    assert made.made_at <= made.ready_at
    assert audiences.current("customers") == made
    assert audiences.version("customers", 1) == made
    assert audiences.by_id(made.id) == made
    assert [(*row[:3], json.loads(row[3])) for row in audiences.members(made.id, 0, 10)] == [
        (2, "m2@example.com", "Anna <m2@example.com>", {"name": "李雷", "age": 7}),
        (4, "m4@example.com", "Anna <m4@example.com>", {}),
    ]
    assert audiences.rejects(made.id, 0, 10) == [BadRow(3, "age", "'x' is no number", "{}")]


def test_attributes_that_are_written_already_are_kept_as_they_are(kept: Kept) -> None:
    made = imported(kept, [Member(1, "a@example.com", "a@example.com", Written({"n": "\0"}, '{"n":"\\u0000"}'))])
    assert kept.ledger.audiences.members(made.id, 0, 10)[0][3] == '{"n":"\\u0000"}'


def test_members_come_in_pages_in_the_order_of_their_rows(kept: Kept) -> None:
    version = begun(kept)
    kept.ledger.audiences.add(version.id, [member(n) for n in (9, 3)], [])
    kept.ledger.audiences.add(version.id, [member(n) for n in (7, 5)], [BadRow(n, "", "bad", "") for n in (6, 4)])
    kept.ledger.audiences.ready(version.id, ANNA)
    found, after = list[int](), 0
    while page := kept.ledger.audiences.members(version.id, after, 3):
        found += [row[0] for row in page]
        after = found[-1]
    assert found == [3, 5, 7, 9]
    assert [reject.n for reject in kept.ledger.audiences.rejects(version.id, 0, 1)] == [4]
    assert [reject.n for reject in kept.ledger.audiences.rejects(version.id, 4, 5)] == [6]


def test_of_the_same_address_the_first_row_counts_wherever_it_was_added(kept: Kept) -> None:
    audiences, version = kept.ledger.audiences, begun(kept)
    audiences.add(version.id, [member(8, "a@example.com"), member(9, "ä@example.com")], [])
    audiences.add(version.id, [member(2, "a@example.com"), member(5, "b@example.com"), member(6, "a@example.com")], [])
    assert sums(audiences.by_id(version.id)) == (5, 5, 0, 0)
    made = audiences.ready(version.id, ANNA)
    assert sums(made) == (5, 3, 0, 2)
    assert [row[0] for row in audiences.members(made.id, 0, 10)] == [2, 5, 9]
    reason = "same address as row 2"
    assert audiences.rejects(made.id, 0, 10) == [
        BadRow(6, "", reason, "Anna <a@example.com>", doubled=True),
        BadRow(8, "", reason, "Anna <a@example.com>", doubled=True),
    ]


def test_thousands_of_doubles_are_merged(kept: Kept) -> None:
    made = imported(kept, [member(n, f"{n % 7}@example.com") for n in range(1, 5001)])
    assert sums(made) == (5000, 7, 0, 4993)
    assert [row[0] for row in kept.ledger.audiences.members(made.id, 0, 10)] == [1, 2, 3, 4, 5, 6, 7]


def test_what_is_not_ready_is_nobodys(kept: Kept) -> None:
    audiences = kept.ledger.audiences
    begun(kept)
    with pytest.raises(NotFound, match="no audience 'customers' that is ready"):
        audiences.current("customers")
    with pytest.raises(NotFound, match="no version 1"):
        audiences.version("customers", 1)
    (found,) = audiences.list()
    assert (found.name, found.versions, found.current) == ("customers", 0, None)
    made = imported(kept, [member(1)])
    assert made.version == 2
    assert audiences.current("customers") == made


def test_a_version_that_is_ready_never_changes(kept: Kept) -> None:
    audiences = kept.ledger.audiences
    made = imported(kept, [member(1)])
    with pytest.raises(NotFound, match="ready, or was given up"):
        audiences.add(made.id, [member(2)], [])
    with pytest.raises(NotFound, match="ready, or was given up"):
        audiences.ready(made.id, ANNA)
    assert audiences.by_id(made.id) == made
    assert [row[0] for row in audiences.members(made.id, 0, 10)] == [1]


def test_the_newest_version_is_current_and_the_others_stay(kept: Kept) -> None:
    audiences = kept.ledger.audiences
    first = imported(kept, [member(1)])
    slow = begun(kept)
    third = imported(kept, [member(1), member(2)])
    assert (slow.version, third.version) == (2, 3)
    audiences.add(slow.id, [member(1)], [])
    audiences.ready(slow.id, ANNA)
    assert audiences.current("customers") == third
    assert audiences.version("customers", 1) == first
    imported(kept, [member(1)], name="b")
    assert [(each.name, each.versions, each.current) for each in audiences.list()] == [
        ("b", 1, audiences.current("b")),
        ("customers", 3, third),
    ]


def test_a_name_that_is_not_known_is_answered_with_those_that_are_alike(kept: Kept) -> None:
    imported(kept, [member(1)])
    with pytest.raises(NotFound, match="did you mean customers"):
        kept.ledger.audiences.current("custmers")
    with pytest.raises(NotFound, match="audiences list"):
        kept.ledger.audiences.current("zzz")
    with pytest.raises(NotFound):
        kept.ledger.audiences.by_id(12345)


def test_imports_of_one_audience_at_the_same_time_get_versions_of_their_own(kept: Kept) -> None:
    found, gate = list[AudienceVersion](), threading.Barrier(4)

    def work() -> None:
        gate.wait(30)
        found.append(imported(kept, [member(1), member(2, "m1@example.com")]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.version for each in found) == [1, 2, 3, 4]
    assert {sums(each) for each in found} == {(2, 1, 0, 1)}
    assert kept.ledger.audiences.current("customers").version == 4


def test_importing_and_dropping_are_acts(kept: Kept) -> None:
    imported(kept, [member(1), member(2)])
    kept.ledger.audiences.drop("customers", 1, ANNA)
    imported(kept, [member(1)])
    kept.ledger.audiences.drop("customers", None, ANNA)
    assert [(act.actor, act.act, act.subject, act.count) for act in reversed(kept.ledger.acts())] == [
        ("anna@desk-7", "import", "audience customers version 1", 2),
        ("anna@desk-7", "drop", "audience customers version 1", 1),
        ("anna@desk-7", "import", "audience customers version 2", 1),
        ("anna@desk-7", "drop", "audience customers", 1),
    ]


def test_what_is_dropped_is_nobodys_at_once_and_its_rows_go_in_steps(kept: Kept) -> None:
    audiences = kept.ledger.audiences
    first = imported(kept, [member(n) for n in range(1, 6)], [BadRow(6, "", "bad", "")])
    imported(kept, [member(1)])
    assert audiences.drop("customers", None, ANNA) == 2
    with pytest.raises(NotFound):
        audiences.current("customers")
    with pytest.raises(NotFound):
        audiences.drop("customers", None, ANNA)
    steps = list[int]()
    while count := audiences.forget(DAY, 2):
        steps.append(count)
    assert sum(steps) == 5 + 1 + 1 + 2  # with both versions
    assert max(steps) == 2
    assert audiences.members(first.id, 0, 10) == []
    assert audiences.rejects(first.id, 0, 10) == []
    assert audiences.list() == []
    with pytest.raises(NotFound):
        audiences.by_id(first.id)


def test_one_version_is_dropped_alone(kept: Kept) -> None:
    audiences = kept.ledger.audiences
    imported(kept, [member(1)])
    second = imported(kept, [member(1)])
    assert audiences.drop("customers", 1, ANNA) == 1
    with pytest.raises(NotFound, match="no version 1"):
        audiences.drop("customers", 1, ANNA)
    assert audiences.current("customers") == second
    while audiences.forget(DAY, 100):
        pass
    assert [each.versions for each in audiences.list()] == [1]


def test_an_import_that_was_given_up_is_forgotten_after_a_day(kept: Kept) -> None:
    audiences = kept.ledger.audiences
    given_up = begun(kept)
    audiences.add(given_up.id, [member(1)], [BadRow(2, "", "bad", "")])
    ready = imported(kept, [member(1)])
    assert audiences.forget(DAY, 100) == 0
    kept.age(DAY + 1)
    while audiences.forget(DAY, 100):
        pass
    with pytest.raises(NotFound):
        audiences.add(given_up.id, [member(3)], [])
    with pytest.raises(NotFound):
        audiences.ready(given_up.id, ANNA)
    assert audiences.members(given_up.id, 0, 10) == []
    assert audiences.current("customers").id == ready.id
    assert [row[0] for row in audiences.members(ready.id, 0, 10)] == [1]


def test_texts_that_a_database_would_refuse_are_spelled_out(kept: Kept) -> None:
    made = imported(kept, [member(1)], [BadRow(2, "a\0", "\ud800", "tab\tnew\nline\\N\0")])
    (found,) = kept.ledger.audiences.rejects(made.id, 0, 10)
    assert found == BadRow(2, "a\\0", "\\ud800", "tab\tnew\nline\\N\\0")
