"""docs/campaigns.md from its first line to its last, as a marketer would follow it, and the commands around it."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from dispatcher.servers.sink import Sink
from tests.commands import QuickStack
from tests.waiting import wait_for
from tests.zygote import zygote

GUIDE = (Path(__file__).parents[2] / "docs" / "campaigns.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = [body for language, _, body in _BLOCK.findall(GUIDE) if language == "sh"]

pytestmark = pytest.mark.slow


class Desk:
    """A marketer's: the files of the guide in a folder, a stack that runs, and a sink for a relay."""

    def __init__(self, folder: Path, stack: QuickStack, sink: Sink) -> None:
        self.folder, self.stack, self.sink = folder, stack, sink
        self.environment = {**os.environ, **stack.environment}

    def __call__(self, line: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = zygote().run(shlex.split(line)[1:], self.stack.environment, folder=self.folder, seconds=120)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, (line, done.stdout, done.stderr)
        return done

    def json(self, line: str) -> Any:
        return json.loads(self(f"{line} --json").stdout)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    for _, name, body in _BLOCK.findall(GUIDE):
        if name:
            (folder / name).write_text(body, encoding="utf-8")
    with Sink() as sink:
        settings = {
            "DISPATCHER_DATA_DIR": str(folder / "var"),
            "DISPATCHER_RELAY_URL": sink.url,
            "DISPATCHER_FROM": "Shop <shop@example.com>",
        }
        with QuickStack(settings) as stack:
            yield Desk(folder, stack, sink)


@pytest.fixture(scope="module")
def guided(desk: Desk) -> list[Message]:
    """The guide's first campaign, from its file to the owner's report: the mails that came of it."""
    before = len(desk.sink.received())
    first, second, *_ = SHELL
    for line in (*first.splitlines(), *second.splitlines()):
        desk(line)
    wait_for(lambda: len(desk.sink.received()) == before + 5, 30)  # three people, one to try it, the owner's report
    return [message_from_bytes(each.content) for each in desk.sink.received()[before:]]


def test_the_guide_works_as_it_stands(desk: Desk, guided: list[Message]) -> None:
    subjects = {str(mail["To"]): mail["Subject"] for mail in guided}
    assert subjects["ada@example.com"] == "[AD] Autumn, slowly"
    assert subjects["you@example.com"] in ("Campaign autumn: finished", "[AD] Autumn, slowly")
    rows = list(csv.DictReader((desk.folder / "autumn.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [(row["row"], row["address"], row["state"]) for row in reversed(rows)] == [
        ("2", "ada@example.com", "sent"), ("3", "li@example.com", "sent"), ("4", "bo@example.com", "sent"),
    ]  # fmt: skip
    for body in SHELL[2:]:
        for line in body.splitlines():
            desk(line)
    (script,) = [body for language, _, body in _BLOCK.findall(GUIDE) if language == "python"]
    python = [sys.executable, "-c", script]
    done = subprocess.run(python, env=desk.environment, cwd=desk.folder, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "draft 3\n"  # its subject does not say AD, and one of the people is in China


def test_a_campaign_that_is_started_from_two_terminals_goes_once(desk: Desk) -> None:
    desk("dispatcher audiences import few customers.csv")
    desk("dispatcher campaigns create twice --template newsletter --audience few --list news --data spring.json")
    desk("dispatcher campaigns check twice")
    before = len(desk.sink.received())
    command = [*desk.stack.command, "campaigns", "start", "twice", "--yes"]
    both = [
        subprocess.Popen(command, env=desk.environment, cwd=desk.folder, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], said
    assert any("twice: is running" in text or "twice: is finished" in text for text in said)
    wait_for(lambda: desk.json("dispatcher campaigns show twice")["state"] == "finished", 30)
    assert len(desk.sink.received()) == before + 3


@pytest.mark.usefixtures("guided")
def test_what_is_wrong_is_one_line_and_sends_nothing(desk: Desk) -> None:
    create = "dispatcher campaigns create bad --template newsletter --list news --data spring.json"
    before = len(desk.sink.received())
    for line, said in (
        (f"{create} --audience nobody", "no audience 'nobody'"),
        (f"{create} --audience customers --where town=Rome", "there is no attribute town"),
        (f"{create} --audience customers --at soon", "is no ISO 8601 time"),
        (f"{create} --audience customers --rate fast", "is no rate"),
        (create, "audience: required"),
        ("dispatcher campaigns show nothing", "no campaign 'nothing'"),
        ("dispatcher campaigns start autumn --yes", "autumn: is "),
    ):
        done = desk(line, code=2)
        assert said in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 + done.stderr.count("dispatcher: 3 mails"), done.stderr
    assert len(desk.sink.received()) == before
