"""docs/automations.md from its first line to its last, beside a stack that runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.servers.sink import Sink
from tests.commands import QuickStack
from tests.waiting import wait_for
from tests.zygote import zygote

GUIDE = (Path(__file__).parents[2] / "docs" / "automations.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_guide_works_as_it_stands(tmp_path: Path) -> None:
    blocks = _BLOCK.findall(GUIDE)
    shell = [body for language, _, body in blocks if language == "sh"]
    shown = [body for language, _, body in blocks if language == "text"]
    with Sink() as sink:
        settings = {
            "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
            "DISPATCHER_RELAY_URL": sink.url,
            "DISPATCHER_FROM": "Shop <shop@example.com>",
        }
        with QuickStack(settings, "--no-flower") as stack:

            def run(body: str) -> list[str]:
                said = []
                for line in body.splitlines():
                    done = zygote().run(shlex.split(line)[1:], stack.environment, folder=tmp_path)
                    assert done.returncode == 0, (line, done.stdout, done.stderr)
                    said.append(done.stdout)
                return said

            run(shell[0])
            for language, name, body in blocks:
                if name.startswith("append:"):
                    with (tmp_path / name.removeprefix("append:")).open("a", encoding="utf-8") as file:
                        file.write(body)
                elif language == "json":
                    (tmp_path / name).write_text(body, encoding="utf-8")
            simulated = run(shell[1])[-1]
            assert words(simulated.replace("\t", " ")) == words(shown[0])
            drawn = run(shell[2])[-1]
            assert shown[1].splitlines() == drawn.splitlines()[: len(shown[1].splitlines())]
            _, one, history, _ = run(shell[3])
            assert "first steps" in one
            assert history.split("\t")[2:6] == ["C-7", '"Ada" <ada@example.com>', "hello", "sent"]
            (script,) = [body for language, _, body in blocks if language == "python"]
            python = [sys.executable, "-c", script]
            done = subprocess.run(
                python, env=stack.environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True
            )
            assert done.stdout == "('welcome/C-8',)\n"
            wait_for(lambda: len(sink.received()) == 2, 30)
            assert {mail.rcpt_to for mail in sink.received()} == {("ada@example.com",), ("bob@example.com",)}
            assert shell[4:] == []
