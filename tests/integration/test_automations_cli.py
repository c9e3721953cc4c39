"""``dispatcher automations`` and ``dispatcher events`` as people use them: written, checked, loaded, drawn."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Cli, errors

CUSTOMER = {"id": "C-7", "email": "ada@example.com", "name": "Ada", "zone": "Asia/Shanghai"}
DATA = json.dumps({"customer": CUSTOMER})


@pytest.fixture(autouse=True)
def ledger_file(cli: Cli, sqlite_template: Path) -> None:
    """A ledger that is migrated already, and the samples beside it."""
    (cli.folder / "var").mkdir(mode=0o700)
    shutil.copy(sqlite_template, cli.folder / "var" / "ledger.db")
    assert cli("automations", "samples", "auto").returncode == 0


def loaded(cli: Cli) -> None:
    done = cli("automations", "load", "auto/events.yaml", "auto/welcome.yaml", "auto/order_flow.yaml")
    assert done.returncode == 0, done.stderr


def change(cli: Cli, name: str, old: str, new: str) -> None:
    path = cli.folder / "auto" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_samples_are_right_and_stay_as_they_were_changed(cli: Cli) -> None:
    change(cli, "welcome.yaml", "after: 3d", "after: 4d")
    again = cli("automations", "samples", "auto")
    assert "welcome.yaml is there already, and stays" in again.stderr
    assert "after: 4d" in (cli.folder / "auto" / "welcome.yaml").read_text(encoding="utf-8")
    checked = cli("automations", "check", "auto")
    assert checked.returncode == 1  # there is no audience of customers yet
    assert checked.stdout.startswith("auto/birthday.yaml:6: trigger.audience: no audience 'customers'")
    (cli.folder / "c.csv").write_text("email,name,birthday\na@example.com,Ann,1990-03-01\n", encoding="utf-8")
    assert cli("audiences", "import", "customers", "c.csv", "--type", "birthday=date", "--yes").returncode == 0
    assert cli("automations", "check", "auto").stdout == "8 documents, nothing wrong\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("event: customer.registered", "event: customer.registred", "welcome.yaml:5: trigger.event: no kind of event"),
        ("template: welcome_invitation", "template: welcome_invite", "welcome.yaml:34: steps[2].send.template: "),
        ("unless: [order.created]", "unless: [order.creatd]", "welcome.yaml:24: steps[1].unless[0]: no kind of event"),
        (
            "after: 3d",
            "after: soon",
            "welcome.yaml:22: steps[1].after: is not as asked for: How long after the step before, such as 36h",
        ),
        ("at: 09:00", "at: 09:00\n    at: 10:00", "welcome.yaml:24: at stands here twice"),
        ("key: customer.id", "key: customer.no", "welcome.yaml:6: key: customer.registered has no customer.no"),
        ("exit: [customer.left]", "exits: [customer.left]", "welcome.yaml:14: exits: no property 'exits'"),
        ("steps:", "steps: [", "welcome.yaml:16: is no YAML"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line_and_nothing_is_loaded(
    cli: Cli, old: str, new: str, said: str
) -> None:
    loaded(cli)
    change(cli, "welcome.yaml", old, new)
    done = cli("automations", "load", "auto/events.yaml", "auto/welcome.yaml")
    assert done.returncode == 2
    (line,) = errors(done)
    assert f"auto/{said}" in line
    assert cli.json("automations", "list")[1]["version"] == 1


def test_a_file_that_is_not_there_and_one_without_anything(cli: Cli) -> None:
    (line,) = errors(cli("automations", "check", "nowhere.yaml"))
    assert "cannot read nowhere.yaml: No such file or directory" in line
    (cli.folder / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    (line,) = errors(cli("automations", "check", "empty.yaml"))
    assert "there is no automation and no event in empty.yaml" in line


def test_an_event_takes_somebody_in_and_a_way_is_shown(cli: Cli) -> None:
    loaded(cli)
    done = cli("events", "emit", "customer.registered", "--id", "r1", "--data", DATA)
    assert done.stdout == "customer.registered r1 is kept; taken in: welcome/C-7\n"
    again = cli("events", "emit", "customer.registered", "--id", "r1", "--data", DATA)
    assert again.stdout == "customer.registered r1 was here before; nothing was done\n"
    drawn = cli("automations", "show", "welcome").stdout.splitlines()
    assert drawn[3] == "● customer.registered, once for each customer.id   (1 person so far)"
    assert "├─ first steps   (1 wait)" in drawn
    found = cli.json("automations", "show", "welcome", "--key", "C-7")
    assert [step["outcome"] for step in found["steps"]] == ["sent"]
    assert found["people"][0]["address"] == '"Ada" <ada@example.com>'
    (line,) = cli("automations", "history", "welcome").stdout.splitlines()
    assert line.split("\t")[1:] == ["welcome", "C-7", '"Ada" <ada@example.com>', "hello", "sent", "welcome"]
    (listed,) = cli.json("events", "list")
    assert (listed["name"], listed["id"]) == ("customer.registered", "r1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("customer.registered",), "data.customer: is missing"),
        (("customer.registred", "--data", DATA), "did you mean customer.registered"),
        (("customer.registered", "--data", "{"), "--data"),
        (("customer.registered", "--data", DATA, "--at", "noon"), "at: is no ISO 8601 time"),
    ],
)
def test_an_event_that_cannot_be_says_why(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    loaded(cli)
    done = cli("events", "emit", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_of_many_events_the_good_ones_are_taken_and_the_others_named_by_line(cli: Cli) -> None:
    loaded(cli)
    good = {"event": "customer.registered", "id": "r1", "data": {"customer": CUSTOMER}}
    lines = [json.dumps(good), "no json", json.dumps({**good, "id": "r2", "data": {}}), "", json.dumps(good)]
    (cli.folder / "e.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = cli("events", "send", "e.jsonl")
    assert done.returncode == 1
    assert done.stdout == "1 taken, 1 duplicate, 2 refused\n"
    assert "e.jsonl:2: is no JSON" in done.stderr
    assert "e.jsonl:3: data.customer: is missing" in done.stderr


def test_people_act_and_it_is_recorded(cli: Cli) -> None:
    loaded(cli)
    cli("events", "emit", "customer.registered", "--id", "r1", "--data", DATA)
    assert (
        cli("automations", "pause", "welcome", "--reason", "a wrong price").stdout == "automation welcome is paused\n"
    )
    assert cli("automations", "show", "welcome").stdout.startswith("welcome, version 1 - paused by ")
    assert errors(cli("automations", "pause", "welcome"))[0].endswith("nothing was done")
    assert cli("automations", "resume", "welcome").returncode == 0
    assert "1 are in it" in errors(cli("automations", "remove", "welcome", "--yes"))[-1]
    assert cli("automations", "exit", "welcome", "C-7", "--reason", "asked").stdout == "C-7 has left welcome\n"
    assert cli("automations", "remove", "welcome", "--yes", "--reason", "a test").returncode == 0
    assert "no automation 'welcome'" in errors(cli("automations", "show", "welcome"))[0]
    assert [act["act"] for act in cli.json("acts")][:5] == ["remove", "exit", "resume", "pause", "load"]


def test_a_simulation_sends_nothing_and_keeps_nothing(cli: Cli) -> None:
    loaded(cli)
    event = {
        "event": "customer.registered",
        "id": "r1",
        "at": "2027-03-01T10:00:00+08:00",
        "data": {"customer": CUSTOMER},
    }
    (cli.folder / "e.jsonl").write_text(json.dumps(event), encoding="utf-8")
    found: list[Any] = cli.json("automations", "simulate", "--events", "e.jsonl", "--until", "2027-03-05")
    assert [(each["at"], each["step"], each["what"]) for each in found] == [
        ("2027-03-01 10:00+08:00", "hello", "welcome"),
        ("2027-03-04 09:00+08:00", "first steps", "welcome_first_steps"),
    ]
    assert cli.json("events", "list") == []
    (cli.folder / "bad.jsonl").write_text('{"event": "customer.registered", "data": {}}', encoding="utf-8")
    done = cli("automations", "simulate", "--events", "bad.jsonl", "--until", "2027-03-05")
    assert "bad.jsonl:1: at: required here: when it happens" in done.stderr


def test_the_schema_for_editors_is_one(cli: Cli) -> None:
    found = json.loads(cli("automations", "schema").stdout)
    assert {each["required"][0] for each in found["oneOf"]} == {"automation", "event"}
