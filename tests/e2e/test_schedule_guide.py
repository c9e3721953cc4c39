"""docs/schedules.md from its first line to its last, beside a stack that runs."""

import json
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

GUIDE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def test_the_guide_works_as_it_stands(tmp_path: Path) -> None:
    for _, name, body in _BLOCK.findall(GUIDE):
        if name:
            (tmp_path / name).write_text(body, encoding="utf-8")
    with Sink() as sink:
        settings = {
            "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
            "DISPATCHER_RELAY_URL": sink.url,
            "DISPATCHER_FROM": "Shop <shop@example.com>",
        }
        with QuickStack(settings, "--no-flower") as stack:

            def run(line: str) -> str:
                done = zygote().run(shlex.split(line)[1:], stack.environment, folder=tmp_path)
                assert done.returncode == 0, (line, done.stderr)
                return done.stdout

            first, *rest = [body for language, _, body in _BLOCK.findall(GUIDE) if language == "sh"]
            said = [run(line) for line in first.splitlines()]
            assert len(said[1].splitlines()) == 5
            wait_for(lambda: len(sink.received()) == 1, 30)
            (ran,) = json.loads(run("dispatcher schedules history report --json"))
            assert (ran["state"], ran["by_hand"], ran["outcome"][:11]) == ("fired", True, "submission ")
            for body in rest:
                for line in body.splitlines():
                    run(line)
            run("dispatcher schedules run-now digest --yes")
            wait_for(lambda: len(sink.received()) == 2, 30)
            assert sink.received()[1].rcpt_to == ("ada@example.com",)
            (script,) = [body for language, _, body in _BLOCK.findall(GUIDE) if language == "python"]
            python = [sys.executable, "-c", script]
            done = subprocess.run(
                python, env=stack.environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True
            )
            assert done.stdout.startswith("3 ")
            wait_for(lambda: len(sink.received()) == 3, 30)
