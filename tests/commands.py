"""Commands as people and programs call them, in a folder of their own."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from dispatcher.adapters.stack import Stack
from tests.zygote import Command, clean, zygote

ORDER: dict[str, Any] = {
    "template": "welcome",
    "from": "erp@example.com",
    "to": ["ann@example.com"],
    "data": {"customer": {"name": "Ann"}},
}


class Cli:
    """Runs commands in a folder of their own, with nothing of the outer environment's settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = clean(DISPATCHER_DATA_DIR=str(folder / "var"), TZ="UTC", COLUMNS="200")
        self.environment["DISPATCHER_FROM"] = "erp@example.com"

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        done = zygote().run(arguments, self.environment | environment, folder=self.folder, stdin=stdin)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def lines(self, *lines: str | bytes | dict[str, Any], name: str = "mails.jsonl") -> str:
        found = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
        (self.folder / name).write_bytes(b"".join((f.encode() if isinstance(f, str) else f) + b"\n" for f in found))
        return name


class QuickStack(Stack):
    """A stack whose programs and commands are forked off a process that has done their imports; without pages unless
    it is told otherwise, since only one of those that run beside each other could have their port."""

    def __init__(self, environment: Mapping[str, str], *options: str, **more: float) -> None:
        super().__init__({"DISPATCHER_PAGES__ENABLED": "false", **environment}, *options, **more)

    def _spawn(self, log: IO[bytes]) -> Command:
        return zygote().start(["up", *self._options], self.environment, output=log, errors=log)

    def run(
        self, *arguments: str, stdin: str | None = None, timeout: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a ``dispatcher`` command against this stack."""
        return zygote().run(arguments, self.environment, stdin=stdin or "", seconds=timeout)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What went wrong: stderr without the note that nobody serves this ledger."""
    return [line for line in done.stderr.splitlines() if "no worker serves this ledger" not in line]
