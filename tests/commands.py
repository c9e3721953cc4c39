"""Commands as people and programs call them, in a folder of their own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-c", "from dispatcher.cli import main; main()")
ORDER: dict[str, Any] = {
    "template": "welcome",
    "from": "erp@example.com",
    "to": ["ann@example.com"],
    "data": {"customer": {"name": "Ann"}},
}


# Importing everything takes seconds for each command; a process that has done so forks one for each command instead.
ZYGOTE = """
import json, os, socket, sys, time
import dispatcher.bootstrap, dispatcher.adapters.workers, dispatcher.sources, dispatcher.cli
orders = socket.socket(fileno=int(sys.argv[1])).makefile("rw")
for order in orders:
    order = json.loads(order)
    child = os.fork()
    if child == 0:
        orders.close()
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        time.tzset()
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.dup2(os.open(order[name], os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["dispatcher", *order["arguments"]]
        dispatcher.cli.main()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    orders.write(f"{os.waitstatus_to_exitcode(status)}\\n")
    orders.flush()
"""


def clean(**environment: str) -> dict[str, str]:
    """This process' environment without the settings of an installation."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    return {**outer, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": "error", **environment}


@pytest.fixture(scope="module")
def zygote() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE, str(theirs.fileno())], env=clean(), pass_fds=[theirs.fileno()]
        )
        theirs.close()
        yield ours
        ours.shutdown(socket.SHUT_RDWR)
        process.wait(20)


class Cli:
    """Runs commands in a folder of their own, with nothing of the outer environment's settings."""

    def __init__(self, folder: Path, zygote: socket.socket) -> None:
        self.folder, self._zygote = folder, zygote
        self.environment = clean(DISPATCHER_DATA_DIR=str(folder / "var"), TZ="UTC", COLUMNS="200")
        self.environment["DISPATCHER_FROM"] = "erp@example.com"

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        files = {name: self.folder / f".{name}" for name in ("stdin", "stdout", "stderr")}
        files["stdin"].write_text(stdin, encoding="utf-8")
        order = {"arguments": arguments, "environment": {**self.environment, **environment}, "folder": str(self.folder)}
        order |= {name: str(path) for name, path in files.items()}
        self._zygote.settimeout(60)
        self._zygote.sendall(json.dumps(order).encode() + b"\n")
        code = int(self._zygote.recv(100))
        out, err = (files[name].read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, code, out, err)

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def lines(self, *lines: str | bytes | dict[str, Any], name: str = "mails.jsonl") -> str:
        found = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
        (self.folder / name).write_bytes(b"".join((f.encode() if isinstance(f, str) else f) + b"\n" for f in found))
        return name


@pytest.fixture
def cli(tmp_path: Path, zygote: socket.socket) -> Cli:
    return Cli(tmp_path, zygote)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What went wrong: stderr without the note that nobody serves this ledger."""
    return [line for line in done.stderr.splitlines() if "no worker serves this ledger" not in line]
