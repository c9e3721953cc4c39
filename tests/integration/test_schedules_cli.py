"""``dispatcher schedules`` as people use it: made, looked at, edited, held, fired by hand, removed."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.schedule import OccurrenceState, ScheduleSpec, come_up
from tests.commands import Cli, errors
from tests.ledgers import ANNA, DAY, InSql

MAIL = json.dumps({"to": ["me@example.com"], "subject": "Good morning", "text": "It is half past two."})
NIGHTLY = ("--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--submission", MAIL)


@pytest.fixture(autouse=True)
def ledger_file(cli: Cli, sqlite_template: Path) -> None:
    """A ledger that is migrated already."""
    (cli.folder / "var").mkdir(mode=0o700)
    shutil.copy(sqlite_template, cli.folder / "var" / "ledger.db")


def url(cli: Cli) -> str:
    return f"sqlite:///{cli.folder / 'var' / 'ledger.db'}"


def one(cli: Cli) -> Any:
    (found,) = cli.json("schedules", "list")
    return found


def test_one_is_made_and_says_when_it_goes_next(cli: Cli) -> None:
    done = cli("schedules", "add", "report", *NIGHTLY, "--reason", "for the boss")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("schedule report: next ")
    assert one(cli)["spec"] == {
        "cron": "30 2 * * *", "zone": "Europe/Berlin", "catch_up": "latest", "submission": json.loads(MAIL),
    }  # fmt: skip
    (act,) = cli.json("acts")
    assert (act["act"], act["subject"], act["reason"]) == ("add", "schedule report", "for the boss")
    listed = cli("schedules", "list").stdout
    assert listed.startswith("report\t30 2 * * * Europe/Berlin\tmail: Good morning\tnext ")


def test_a_mail_may_stand_in_a_file(cli: Cli) -> None:
    (cli.folder / "mail.json").write_text(MAIL)
    assert cli.json("schedules", "add", "report", "--every", "2h", "--submission", "mail.json")["spec"]["every"] == "2h"
    assert "every 2h\tmail: Good morning" in cli("schedules", "list").stdout


def test_the_next_times_say_what_a_change_of_clocks_does(cli: Cli) -> None:
    cli("schedules", "add", "report", *NIGHTLY, "--start", "2031-03-29T00:00", "--end", "2031-10-27T00:00")
    lines = cli("schedules", "next", "report", "-n", "3").stdout.splitlines()
    assert lines == [
        "2031-03-29 02:30 +01:00\t",
        "2031-03-30 03:00 +02:00\tclocks skip 02:30 that night",
        "2031-03-31 02:30 +02:00\t",
    ]
    last = cli.json("schedules", "next", "report", "-n", "1000")[-1]
    assert last["local"] == "2031-10-26 02:30 +02:00"
    assert last["note"] == "02:30 comes twice that night; this is the first"


def test_one_is_edited_and_an_empty_value_takes_a_setting_away(cli: Cli) -> None:
    cli("schedules", "add", "report", *NIGHTLY, "--late", "3h")
    done = cli("schedules", "edit", "report", "--every", "6h", "--late", "", "--catch-up", "all", "--with-occurrence")
    assert done.returncode == 2
    assert errors(done) == ["dispatcher: submission.data: goes with a template; this submission names none"]
    done = cli("schedules", "edit", "report", "--every", "6h", "--late", "", "--catch-up", "all")
    assert done.returncode == 0, done.stderr
    assert one(cli)["spec"] == {
        "every": "6h", "zone": "Europe/Berlin", "catch_up": "all", "submission": json.loads(MAIL),
    }  # fmt: skip


def test_one_is_held_and_goes_on(cli: Cli) -> None:
    cli("schedules", "add", "report", *NIGHTLY)
    assert cli("schedules", "pause", "report", "--reason", "holidays").stdout == "schedule report: paused: holidays\n"
    again = cli("schedules", "pause", "report")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "report: is paused by " in again.stderr
    assert cli.json("schedules", "resume", "report")["paused"] is False
    assert [act["act"] for act in cli.json("acts")] == ["resume", "pause", "add"]


def test_one_is_fired_by_hand_and_what_became_of_it_is_told(cli: Cli) -> None:
    cli("schedules", "add", "report", *NIGHTLY)
    done = cli("schedules", "run-now", "report", "--reason", "at once")
    assert done.stdout == "schedule report fires; see `dispatcher schedules history report`\n"
    assert "no worker serves this ledger" in done.stderr
    ledger = SqlLedger(url(cli))
    (due,) = ledger.schedules.due(10)
    ledger.schedules.done(due, OccurrenceState.FIRED, "submission s1")
    ledger.close()
    (shown,) = cli.json("schedules", "history", "report")
    assert (shown["state"], shown["by_hand"], shown["outcome"]) == ("fired", True, "submission s1")
    assert cli("schedules", "history", "report").stdout.endswith("\tfired\tby hand\tsubmission s1\n")


def test_one_that_mails_many_is_fired_by_hand_only_when_that_is_meant(cli: Cli) -> None:
    job = json.dumps({"manifest": "people.csv", "folder": "out", "files": ["{n}.pdf"], "subject": "S", "text": "T"})
    assert cli("schedules", "add", "statements", "--cron", "0 7 1 * *", "--report", job).returncode == 0
    done = cli("schedules", "run-now", "statements")
    assert done.returncode == 2
    assert (
        "report: people.csv goes once more, beside the times of statements; nobody is here to be asked" in done.stderr
    )
    assert cli("schedules", "run-now", "statements", "--yes").returncode == 0
    assert len(cli.json("schedules", "history", "statements")) == 1


def test_the_history_accounts_for_every_time(cli: Cli) -> None:
    cli("schedules", "add", "report", "--every", "1h", "--submission", MAIL)
    kept = InSql(url(cli))
    kept.age(3 * 3600 + 2)
    (seen,) = kept.ledger.schedules.ripe(1)
    kept.ledger.schedules.note(seen, come_up(seen, 10))
    kept.close()
    assert [each["state"] for each in cli.json("schedules", "history", "report")] == ["due", "skipped", "skipped"]
    assert len(cli("schedules", "history", "report", "-n", "2").stdout.splitlines()) == 2


def test_one_is_removed_when_that_is_meant(cli: Cli) -> None:
    cli("schedules", "add", "report", *NIGHTLY)
    assert cli("schedules", "remove", "report").returncode == 2
    assert cli("schedules", "remove", "report", "--yes").stdout == "schedule report is removed\n"
    assert cli.json("schedules", "list") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "x", "--cron", "0 0 31 2 *", "--submission", MAIL), "cron: '0 0 31 2 *' never fires"),
        (("add", "x", "--cron", "often", "--submission", MAIL), "cron: 'often' has not five fields"),
        (("add", "x", "--submission", MAIL), "cron: give either a cron line or every"),
        (("add", "x", "--every", "1h"), "submission: give either a submission, a campaign or a report"),
        (("add", "x", "--every", "1h", "--submission", "{"), "--submission: "),
        (("add", "x", "--every", "1h", "--submission", '{"to": ["x"]}'), "submission."),
        (("add", "x", "--every", "1h", "--campaign", '{"template": "newsletter"}'), "campaign.audience: required"),
        (("add", "x", "--every", "1h", "--zone", "Mars", "--submission", MAIL), "zone: 'Mars' is no time zone"),
        (("add", "x", "--every", "1h", "--catch-up", "some", "--submission", MAIL), "catch_up: 'some' is none of"),
        (("add", "x", "--every", "1h", "--submission", '"text"'), "--submission: "),
        (("next", "nothing"), "no schedule 'nothing'; there is none yet"),
        (("history", "nothing"), "no schedule 'nothing'"),
        (("remove", "nothing", "--yes"), "no schedule 'nothing'"),
        (("run-now", "nothing"), "no schedule 'nothing'"),
    ],
)
def test_what_is_wrong_is_one_line_and_keeps_nothing(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = cli("schedules", *arguments)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert cli.json("schedules", "list") == []


# -- how they stand, to whom looks at the whole


def standing(cli: Cli) -> tuple[Any, list[dict[str, str]]]:
    """What ``status`` and ``doctor`` say of schedules."""
    return cli.json("status")["schedules"], [row for row in cli.json("doctor") if row["what"] == "schedules"]


def test_status_and_doctor_say_what_nobody_fires_and_what_is_over(cli: Cli) -> None:
    found, (said,) = standing(cli)
    assert (found["count"], found["due"], found["due_since"], found["over"]) == (0, 0, None, [])
    assert (said["level"], said["found"]) == ("ok", "none")
    assert "schedules" not in cli("status").stdout

    cli("schedules", "add", "hourly", "--every", "1h", "--submission", MAIL)
    cli("schedules", "add", "held", *NIGHTLY)
    cli("schedules", "pause", "held")
    found, (said,) = standing(cli)
    assert (found["count"], found["paused"], found["due"]) == (2, 1, 0)
    assert (said["level"], said["found"]) == ("ok", "2, 1 paused")
    assert "\nschedules: 2 · 1 paused · 0 due · 0 failed within a day\n" in cli("status").stdout

    kept = InSql(url(cli))
    kept.age(3600 + 30)
    assert standing(cli)[1][0]["level"] == "ok"  # just now
    kept.age(600)
    ended = ScheduleSpec(every="1h", end="2020-01-01T00:00", submission=json.loads(MAIL))
    kept.ledger.schedules.create("gone", ended, ANNA)  # the command refuses one that is over already
    kept.close()
    found, (waits, over) = standing(cli)
    assert (found["due"], found["over"], found["read_at"] - found["due_since"] > 600) == (1, ["gone"], True)
    assert waits["level"] == "warn"
    assert re.fullmatch(r"1 occurrence due and not fired, for 1\d min", waits["found"])
    assert (over["level"], over["found"]) == ("warn", "over, nothing more will come of it: gone")
    assert re.search(r"\nschedules: 3 · 1 paused · 1 due since [-\d]+ [:\d]+ · 0 failed within a day · 1 over\n",
                     cli("status").stdout)  # fmt: skip


def test_status_and_doctor_say_what_failed_within_a_day(cli: Cli) -> None:
    cli("schedules", "add", "report", "--every", "1h", "--submission", MAIL)
    kept = InSql(url(cli))
    store = kept.ledger.schedules
    store.run_now("report", ANNA)
    store.done(store.due(1)[0], OccurrenceState.FAILED, "to[0]: 'me' is no address")
    found, (said,) = standing(cli)
    assert (found["failed"], found["last_failed"]) == (1, ["report", "to[0]: 'me' is no address"])
    assert (said["level"], said["found"]) == (
        "warn", "1 occurrence failed within a day, last of report: to[0]: 'me' is no address"
    )  # fmt: skip
    assert "`dispatcher schedules history report`" in said["advice"]
    assert " · 1 failed within a day" in cli("status").stdout
    kept.age(DAY)
    kept.close()
    assert cli.json("status")["schedules"]["failed"] == 0
