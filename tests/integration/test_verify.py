"""``dispatcher verify`` as people and programs call it, and beside workers that send."""

import json
import os
import pty
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.accountant import Accountant
from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.cli.verify import Record
from dispatcher.delivery import LeasedMessage, State
from dispatcher.reply import Phase
from dispatcher.servers.recording import Received, Recording
from tests.commands import Cli
from tests.ledgers import InSql, accepted, add, lease, message, settle, settlement
from tests.sizes import sized
from tests.zygote import COMMAND

SAID: dict[str, Any] = {"phase": Phase.FINAL, "code": 250}


@pytest.fixture
def ledger(cli: Cli, sqlite_template: Path) -> Iterator[SqlLedger]:
    """The ledger that the commands work on."""
    (cli.folder / "var").mkdir(mode=0o700)
    file = shutil.copy(sqlite_template, cli.folder / "var" / "ledger.db")
    found = SqlLedger(f"sqlite:///{file}")
    yield found
    found.close()


def take(recording: Recording, found: LeasedMessage, times: int = 1) -> None:
    """Record a mail as the sink does."""
    content = f"Message-ID: <{found.public_id}@example.com>\r\n\r\nHello\r\n".encode()
    to = tuple(delivery.rcpt for delivery in found.deliveries)
    for _ in range(times):
        recording.append(Received.of(time.time(), "erp@example.com", to, content))


def sent(ledger: SqlLedger, file: Path, count: int, *, times: int = 1) -> None:
    """Send messages of two recipients each, that a sink records so many times."""
    add(ledger, accepted(*(message(f"a{n}@example.com", f"b{n}@example.com") for n in range(count))))
    leased = lease(ledger)
    recording = Recording(file)
    for each in leased.messages:
        take(recording, each, times)
    recording.close()
    settle(ledger, leased, **SAID)


def test_the_proof_is_printed_for_a_program(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 3)
    done = cli("verify", "--sink", "mails.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "claim\tcount\tholds"
    claims = [line.split("\t")[1:] for line in lines[1:6]]
    assert claims == [["6", "yes"], ["0", "yes"], ["6", "yes"], ["0", "yes"], ["6", "yes"]]
    assert lines[-1] == "the proof holds"


def test_the_document_has_every_number(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 3)
    lists = ("unbalanced", "missing", "unexplained", "strange", "overdue")
    zeros = ("live", "doubled", "by_hand", "in_doubt_events", "held", "host_lost", "retired", "foreign")
    wanted = {"ok": True, "accepted": 6, "rows": 6, "states": {"sent": 6}, "sent": 6, "sink": 3, "sink_recipients": 6}
    wanted |= dict.fromkeys(zeros, 0) | {name: [] for name in lists} | {f"{name}_count": 0 for name in lists}
    done = cli("verify", "--sink", "mails.jsonl", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == wanted
    without = cli.json("verify")
    assert without == wanted | {"sink": None, "doubled": None, "sink_recipients": 0}


def test_without_a_record_it_says_what_was_not_asked(cli: Cli, ledger: SqlLedger) -> None:
    add(ledger, accepted())
    lines = cli("verify").stdout.splitlines()
    assert "1 delivery not settled yet: this is a proof of what there is so far" in lines
    assert lines[-2:] == ["no sink's record was given, so nobody was asked what came: --sink FILE", "the proof holds"]


def test_what_contradicts_it_is_listed_with_its_reason(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 1, times=2)
    sent(ledger, cli.folder / "other.jsonl", 1)
    done = cli("verify", "--sink", "mails.jsonl")
    assert (done.returncode, done.stderr) == (1, "")
    listed = [line.split("\t") for line in done.stdout.splitlines() if re.match(r"[a-z2-7]{16}-1-[a-z2-7]{6}\.", line)]
    assert sorted(row[1:] for row in listed) == [
        ["a0@example.com", "sent, and 2 times in the sink"],
        ["a0@example.com", "sent, and not in the sink"],
        ["b0@example.com", "sent, and 2 times in the sink"],
        ["b0@example.com", "sent, and not in the sink"],
    ]
    assert done.stdout.splitlines()[-1] == "the proof does not hold: 4 contradictions"
    for row in listed:
        assert cli("messages", "show", row[0]).returncode == 0  # it is an id that the other commands know
    document = cli.json("verify", "--sink", "mails.jsonl")
    assert (document["ok"], document["missing_count"], document["unexplained_count"]) == (False, 2, 2)
    assert {*document["missing"], *document["unexplained"]} == {row[0] for row in listed}


def test_several_sinks_are_one(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 1)
    sent(ledger, cli.folder / "other.jsonl", 1)
    assert cli("verify", "--sink", "mails.jsonl").returncode == 1
    assert cli("verify", "--sink", "mails.jsonl", "--sink", "other.jsonl").returncode == 0


def test_more_than_a_screen_of_contradictions_is_cut(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 15)
    (cli.folder / "mails.jsonl").write_bytes(b"")
    lines = cli("verify", "--sink", "mails.jsonl").stdout.splitlines()
    assert sum(line.endswith("not in the sink") for line in lines) == 20
    assert lines[-2:] == ["these are 20 of 30; --json has more", "the proof does not hold: 30 contradictions"]


def test_a_line_that_is_being_written_is_not_there_yet(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 2)
    whole = (cli.folder / "mails.jsonl").read_bytes()
    (cli.folder / "mails.jsonl").write_bytes(whole[:-7])
    assert cli.json("verify", "--sink", "mails.jsonl")["missing_count"] == 2
    said = "dispatcher: mails.jsonl: its last line has no end and does not count: it is being written, or was cut off\n"
    assert cli("verify", "--sink", "mails.jsonl").stderr == said


def test_a_record_that_is_given_twice_is_refused(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 1)
    done = cli("verify", "--sink", "mails.jsonl", "--sink", "./mails.jsonl")
    assert (done.returncode, done.stderr) == (
        2,
        "dispatcher: --sink: mails.jsonl is mails.jsonl: each record counts once\n",
    )


def test_a_ledger_is_there_whatever_its_url_adds(cli: Cli, ledger: SqlLedger) -> None:
    url = f"sqlite:///{cli.folder / 'var' / 'ledger.db'}?timeout=30"
    assert cli("verify", DISPATCHER_LEDGER_URL=url).returncode == 0


def test_a_folder_without_a_ledger_proves_nothing(cli: Cli) -> None:
    done = cli("verify")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dispatcher: DISPATCHER_DATA_DIR: there is no ledger at ")
    assert not (cli.folder / "var").exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"message_id": "<a@b>"',
        "[]",
        '{"time": "x", "message_id": "", "rcpt_to": []}',
        "7",
        '{"time": 1, "message_id": 5, "rcpt_to": []}',
        '{"time": 1, "message_id": "<a@b>", "rcpt_to": "a@b"}',
    ],
)
def test_a_file_that_is_no_record_is_one_line_and_exit_2(cli: Cli, ledger: SqlLedger, text: str) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 1)
    with (cli.folder / "mails.jsonl").open("a") as lines:
        lines.write(f"{text}\n")
    done = cli("verify", "--sink", "mails.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dispatcher: --sink: mails.jsonl:2: is no line of a sink's record\n"


def test_a_record_that_cannot_be_read_is_one_line_and_exit_2(cli: Cli, ledger: SqlLedger) -> None:
    done = cli("verify", "--sink", "nowhere.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dispatcher: --sink: cannot read nowhere.jsonl: No such file or directory\n"


def test_it_fits_a_terminal(cli: Cli, ledger: SqlLedger) -> None:
    sent(ledger, cli.folder / "mails.jsonl", 1, times=2)
    ours, theirs = pty.openpty()
    environment = cli.environment | {"COLUMNS": "80", "TERM": "xterm"}
    done = subprocess.run(
        [*COMMAND, "verify", "--sink", "mails.jsonl"], env=environment, cwd=cli.folder, stdout=theirs, check=False
    )
    os.close(theirs)
    with os.fdopen(ours, "rb") as screen:
        shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.read1(100_000).decode())
    assert done.returncode == 1
    assert all(len(line) <= 80 for line in shown.splitlines()), shown
    assert re.search(r"^ ?[a-z2-7]{16}-1-[a-z2-7]{6}\.1 ", shown, re.MULTILINE), shown


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def kept(request: pytest.FixtureRequest) -> InSql:
    found: InSql = request.getfixturevalue(f"{request.param}_ledger")
    return found


def test_it_holds_at_every_moment_while_mail_is_sent(kept: InSql, tmp_path: Path) -> None:
    """Two workers that send, fall silent after the dot, and hold in doubt; their sink records before they settle."""
    count = sized(60, 5000)
    recording, ledger = Recording(tmp_path / "mails.jsonl"), SqlLedger(kept.url)

    def work(number: int) -> None:
        for turn in range(count):
            add(ledger, accepted(f"w{number}@example.com", message(f"x{turn}@example.com", "y@example.com")))
            leased = lease(ledger, limit=3)
            found = []
            for nth, (each, delivery) in enumerate((m, d) for m in leased.messages for d in m.deliveries):
                silent = (turn + nth) % 7 == 0
                if delivery is each.deliveries[0]:
                    take(recording, each)
                state = State.QUEUED if silent else State.SENT
                found.append(settlement(leased, state, nth, **({"phase": Phase.FINAL} if silent else SAID)))
            ledger.settle(leased.token, found)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    looks = 0
    while any(worker.is_alive() for worker in workers):
        proof = Accountant(kept.ledger, host_grace=60, kept_since=0).prove(Record([tmp_path / "mails.jsonl"]))
        assert proof.ok, proof.document()
        looks += 1
    for worker in workers:
        worker.join()
    recording.close()
    ledger.close()
    assert looks > 2
    assert proof.sent > count
