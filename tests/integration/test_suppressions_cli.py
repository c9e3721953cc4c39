"""``dispatcher suppressions`` as people use it: one address by hand, a list of them from a file, and back again."""

import csv
import io
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.suppression import ALL, Reason, Suppression
from tests.commands import ORDER, Cli, errors

ADA, BOB = "ada@example.com", "bob@example.com"
NEWS = {"subject": "News", "text": "Hello", "lane": "bulk", "list": "news", "to": [ADA]}


@pytest.fixture(autouse=True)
def ledger_file(cli: Cli, sqlite_template: Path) -> None:
    """A ledger that is migrated already."""
    (cli.folder / "var").mkdir(mode=0o700)
    shutil.copy(sqlite_template, cli.folder / "var" / "ledger.db")


def found(cli: Cli, *arguments: str) -> list[tuple[str, str, str]]:
    return [(each["address"], each["scope"], each["reason"]) for each in cli.json("suppressions", "list", *arguments)]


def read(cli: Cli, name: str) -> str:
    return (cli.folder / name).read_text(encoding="utf-8")


# -- by hand


def test_who_is_added_gets_no_more_mail_and_the_timeline_says_why(cli: Cli) -> None:
    done = cli("suppressions", "add", "Ada <ADA@Example.com>", "--evidence", "asked by phone")
    assert (done.returncode, done.stdout) == (0, "added 1 · standing 0\n")
    assert "for all mail, order confirmations too" in done.stderr
    done = cli("submit", cli.lines({**ORDER, "to": [ADA], "idempotency_key": "a"}, {**ORDER, "to": [BOB]}))
    assert done.stdout == "accepted 2 · duplicate 0 · rejected 0\n"
    (shown,) = cli.json("messages", "show", "a")
    assert (shown["state"], shown["text"]) == ("suppressed", "scope all, reason hand")
    assert "suppressed: scope all, reason hand" in cli("messages", "show", "a").stdout
    (held,) = cli.json("suppressions", "show", ADA)
    assert (held["evidence"], held["origin"], held["until"]) == ("asked by phone", "command line", None)
    assert held["actor"]
    (act,) = cli.json("acts")
    assert (act["act"], act["subject"], act["reason"]) == ("suppress", f"{ADA} all", "asked by phone")
    status = cli.json("status")
    assert (status["suppressions"], status["states"]) == (1, {"queued": 1, "suppressed": 1})


def test_send_says_that_the_recipient_is_suppressed(cli: Cli) -> None:
    cli("suppressions", "add", ADA)
    answer = cli.json("send", "--to", ADA, "--subject", "Hi", "--text", "Hello")
    assert (answer["suppressed"], answer["state"]) == (1, "suppressed")


def test_one_list_is_no_other_mail(cli: Cli) -> None:
    cli("suppressions", "add", ADA, "--list", "News")
    cli("submit", cli.lines({**NEWS, "idempotency_key": "n"}, {**ORDER, "to": [ADA], "idempotency_key": "o"}))
    assert [cli.json("messages", "list", key)[0]["state"] for key in "no"] == ["suppressed", "queued"]
    assert found(cli, "--list", "news") == [(ADA, "list:news", "hand")]
    assert found(cli, "--scope", "marketing") == []


def test_for_a_time_is_not_for_good(cli: Cli) -> None:
    cli("suppressions", "add", ADA, "--for", "30d")
    cli("suppressions", "add", BOB, "--until", "2999-01-01T00:00")
    until = {each["address"]: each["until"] for each in cli.json("suppressions", "list")}
    assert until[ADA] == pytest.approx(time.time() + 30 * 86400, abs=60)
    assert until[BOB] > until[ADA]


def test_who_is_removed_is_written_to_again(cli: Cli) -> None:
    cli("submit", cli.lines({**ORDER, "to": [ADA], "idempotency_key": "before"}))
    cli("suppressions", "add", ADA, "--scope", "marketing")
    cli("suppressions", "add", ADA)
    done = cli("suppressions", "remove", ADA, "--reason", "new mailbox")
    assert done.returncode == 2
    assert "2 suppressions will be removed; nobody is here to be asked" in done.stderr
    done = cli("suppressions", "remove", ADA, "--reason", "new mailbox", "--yes")
    assert (done.returncode, done.stdout) == (0, "2 suppressions removed\n")
    assert found(cli) == []
    assert cli.json("acts")[0]["reason"] == "new mailbox"
    assert cli("suppressions", "remove", ADA, "--yes").returncode == 1
    assert cli("suppressions", "show", ADA).returncode == 1


def test_a_retry_says_that_it_may_come_to_nothing(cli: Cli) -> None:
    cli("suppressions", "add", ADA)
    cli("submit", cli.lines({**ORDER, "to": [ADA], "idempotency_key": "a"}))
    done = cli("messages", "retry", "a", "--state", "suppressed", "--yes")
    assert (done.returncode, done.stdout) == (0, "1 delivery changed\n")
    assert "1 delivery of them were suppressed; who still is will be suppressed again" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("add", "nobody"), "not an email address"),
        (("add", ADA, "--scope", "everything"), "no scope: write all, marketing or list:NAME"),
        (("add", ADA, "--list", "a b"), "no name for a list"),
        (("add", ADA, "--list", "news", "--scope", "all"), "one of --scope and --list"),
        (("add", ADA, "--for", "soon"), "no duration"),
        (("add", ADA, "--for", "1d", "--until", "2999-01-01"), "one of --for and --until"),
        (("add", ADA, "--until", "2020-01-01"), "in the past"),
        (("add", ADA, "--reason", "spite"), "is not one of"),
        (("import", "missing.csv"), "cannot read missing.csv"),
        (("export", "--output", "no/such/folder"), "cannot write"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(cli: Cli, arguments: tuple[str, ...], why: str) -> None:
    done = cli("suppressions", *arguments)
    assert done.returncode == 2
    assert why in " ".join(done.stderr.split())
    assert found(cli) == []


# -- from a file


def test_lines_of_addresses(cli: Cli) -> None:
    name = cli.lines(b"\xef\xbb\xbfada@example.com", "", "  Bob <BOB@example.com> ", "nobody", ADA, name="out.txt")
    done = cli("suppressions", "import", name, "--scope", "marketing", "--reason", "unsubscribe")
    assert (done.returncode, done.stdout) == (1, "added 2 · standing 1 · rejected 1\n")
    assert errors(done) == ["out.txt:4: address: 'nobody' is not an email address: there is no \"@\""]
    assert found(cli) == [(ADA, "marketing", "unsubscribe"), (BOB, "marketing", "unsubscribe")]
    (act,) = cli.json("acts")
    assert (act["act"], act["count"]) == ("suppress", 2)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_with_a_head(cli: Cli, separator: str) -> None:
    table = [
        ["Email", "scope", "reason", "evidence", "until", "city"],
        [ADA, "list:News", "complaint", 'said "no"; and meant it', "2999-01-01T00:00:00+00:00", "Oslo"],
        ["", "all"],
        [BOB],
        ["eve@example.com", "everything"],
        ["dan@example.com", "all", "spite"],
        ["kim@example.com", "", "", "", "soon"],
        ["jon@example.com", "", "", "", "2020-01-01"],
    ]
    with (cli.folder / "out.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(table)
    done = cli("suppressions", "import", "out.csv", "--list", "offers", "--rejects", "bad.jsonl")
    assert done.stdout == "added 2 · standing 0 · rejected 5\n"
    assert [line.partition(": ")[2] for line in errors(done)] == [
        "address: is missing",
        "'everything' is no scope: write all, marketing or list:NAME",
        "reason: 'spite' is none of bounce, complaint, unsubscribe, hand, import",
        "until: 'soon' is no time: write 2026-12-01T09:00:00+08:00",
        "until: is over",
    ]
    assert [json.loads(line)["line"] for line in read(cli, "bad.jsonl").splitlines()] == [3, 5, 6, 7, 8]
    (ada,) = cli.json("suppressions", "show", ADA)
    assert (ada["scope"], ada["reason"], ada["evidence"]) == ("list:news", "complaint", 'said "no"; and meant it')
    (bob,) = cli.json("suppressions", "show", BOB)
    assert (bob["scope"], bob["reason"], bob["origin"]) == ("list:offers", "import", "import of out.csv")


def test_a_quote_that_is_left_open_costs_its_own_row_alone(cli: Cli) -> None:
    name = cli.lines(
        "address,evidence",
        'a@example.com,"said stop',
        "b@example.com,ok",
        'c@example.com,"he said "no"',
        'd@example.com,"fine"',
        'e@example.com,"a\rb"',
        "",
        ",",
        'f@example.com,"said stop',
        name="out.csv",
    )
    done = cli("suppressions", "import", name, "--scope", "all")
    assert (done.returncode, done.stdout) == (1, "added 2 · standing 0 · rejected 4\n")
    assert errors(done) == [
        "out.csv:2: has a quote that is not closed on its line",
        'out.csv:4: has a quote within a quoted cell; write it twice: ""',
        "out.csv:6: has a cell with a line end",
        "out.csv:9: has a quote that is not closed on its line",
    ]
    assert [address for address, *_ in found(cli)] == ["b@example.com", "d@example.com"]


def test_json_lines(cli: Cli) -> None:
    good: dict[str, Any] = {"address": ADA, "scope": "all", "reason": "bounce", "at": 1.7e9, "until": None}
    name = cli.lines(good, "{", "[]", {"address": 7}, {"email": BOB}, {"address": BOB, "at": True}, name="out.jsonl")
    done = cli("suppressions", "import", name)
    assert done.stdout == "added 2 · standing 1 · rejected 3\n"
    assert found(cli) == [(ADA, "all", "bounce"), (BOB, "all", "import")]
    assert cli.json("suppressions", "show", ADA)[0]["at"] == 1.7e9


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_that_says_nothing(cli: Cli, content: bytes) -> None:
    (cli.folder / "out.txt").write_bytes(content)
    done = cli("suppressions", "import", "out.txt")
    assert (done.returncode, done.stdout) == (0, "added 0 · standing 0 · rejected 0\n")


@pytest.mark.parametrize("head", [b"", b"address,evidence\n"])
def test_what_is_no_utf_8_or_has_no_end_is_one_bad_row(cli: Cli, head: bytes) -> None:
    (cli.folder / "out.txt").write_bytes(head + b"M\xfcller@example.com\n" + b"x" * 200_000 + b"\nada@example.com\n")
    done = cli("suppressions", "import", "out.txt")
    assert done.stdout == "added 1 · standing 0 · rejected 2\n"
    assert "is not UTF-8" in done.stderr
    assert "is longer than 64 kB" in done.stderr


def test_from_stdin(cli: Cli) -> None:
    assert cli("suppressions", "import", "-", stdin=f"{ADA}\n").stdout.startswith("added 1")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_is_exported_may_be_imported(cli: Cli, form: str) -> None:
    ledger = SqlLedger(f"sqlite:///{cli.folder / 'var' / 'ledger.db'}")
    made = [
        Suppression(ADA, ALL, Reason.BOUNCE, '550 5.1.1 "no", such\nuser', "ab-1-cd", 1.7e9, None, "anna@desk"),
        Suppression("jörg@example.com", "list:新闻", Reason.UNSUBSCRIBE, "one-click", "page", 1.7e9, 4e9),
    ]
    ledger.suppressions.add(made)
    done = cli("suppressions", "export", "--format", form, "--output", f"all.{form}")
    assert done.stderr == "dispatcher: 2 rows written\n"
    for each in made:
        ledger.suppressions.remove(each.address, None, _nobody())
    done = cli("suppressions", "import", f"all.{form}")
    assert done.stdout == "added 2 · standing 0 · rejected 0\n"
    again = {each.address: each for each in ledger.suppressions.find()}
    ledger.close()
    evidence = made[0].evidence if form == "jsonl" else '550 5.1.1 "no", such user'  # in CSV a row is a line
    assert again[ADA] == replace(made[0], evidence=evidence)
    assert again["jörg@example.com"].evidence == "one-click"
    assert again["jörg@example.com"].until == 4e9


def _nobody() -> Any:
    from dispatcher.delivery import Actor  # noqa: PLC0415 - only here

    return Actor("nobody", "nowhere")


def test_an_export_may_be_of_a_part(cli: Cli) -> None:
    cli("suppressions", "add", ADA)
    cli("suppressions", "add", BOB, "--list", "news", "--reason", "unsubscribe")
    rows = list(csv.DictReader(io.StringIO(cli("suppressions", "export", "--format", "csv", "--list", "news").stdout)))
    assert [row["address"] for row in rows] == [BOB]
    assert [row["address"] for row in cli.json("suppressions", "export", "--reason", "hand")] == [ADA]


def test_a_long_list_says_that_there_are_more(cli: Cli) -> None:
    cli("suppressions", "import", "-", stdin="".join(f"{n}@example.com\n" for n in range(150)))
    done = cli("suppressions", "list", "--limit", "10")
    assert len(done.stdout.splitlines()) == 10
    assert "these are 10 of 150" in done.stderr
