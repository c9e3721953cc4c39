"""Runs ``dispatcher`` commands without the seconds that each would spend on its imports: a process that has done them
forks one for each command, and so do the stacks among them for their programs. What a command does, prints and ends
with is its own."""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.forked import PADDING, become, instead_of_programs, load_rig

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from dispatcher.cli import main; main()")
_MOST = 100_000  # bytes of an order: arguments and environment
_NOTHING = Path(os.devnull)
_PRELOADED = (
    *("dispatcher.adapters.workers", "dispatcher.bootstrap", "dispatcher.cli", "dispatcher.cli.programs"),
    *("alembic.command", "dispatcher.adapters.sql.inspecting", "dispatcher.cli.soundness"),
    *("dispatcher.sources", "celery.app.amqp", "celery.bin.beat", "celery.bin.worker", "celery.worker"),
)


class Command:
    """A command that runs, or has run; its ``pid``."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "r")
        self.pid = int(self._status.readline())
        self._code: int | None = None

    def poll(self, seconds: float = 0.0) -> int | None:
        """Its exit code; None while it runs, waited for so long."""
        if self._code is None and select.select([self._status], [], [], seconds)[0]:
            with self._status:
                self._code = int(self._status.readline())
        return self._code

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code. Raises TimeoutExpired when it takes longer."""
        if (code := self.poll(timeout)) is None:
            raise subprocess.TimeoutExpired("dispatcher", timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """It may have ended already."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for its end; it may have ended already."""
        self.send_signal(signal.SIGKILL)
        self.poll(10)


class Zygote:
    """The process that forks, until ``close``."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.zygote", str(theirs.fileno()), PADDING],
                env=clean(),
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        output: IO[Any],
        errors: IO[Any],
        folder: Path = ROOT,
        stdin: Path = _NOTHING,
    ) -> Command:
        """Run ``dispatcher`` with these arguments and nothing else in its environment, in this folder."""
        order = {"arguments": list(arguments), "environment": dict(environment), "folder": str(folder)}
        document = json.dumps(order).encode()
        assert len(document) < _MOST, "an order of such a size would be cut off"
        status, theirs = os.pipe()
        with stdin.open("rb") as given:
            files = [given.fileno(), output.fileno(), errors.fileno(), theirs]
            socket.send_fds(self._orders, [document], files)
        os.close(theirs)
        return Command(status)

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: Path = ROOT,
        stdin: str = "",
        seconds: float = 60.0,
    ) -> "subprocess.CompletedProcess[str]":
        """The same to its end. Raises TimeoutExpired."""
        with tempfile.TemporaryDirectory() as papers, contextlib.ExitStack() as ending:
            given = Path(papers) / "stdin"
            given.write_text(stdin, encoding="utf-8")
            output, errors = (ending.enter_context((Path(papers) / name).open("w+b")) for name in ("out", "err"))
            begun = self.start(arguments, environment, output=output, errors=errors, folder=folder, stdin=given)
            try:
                code = begun.wait(seconds)
            finally:
                begun.kill()
            out, err = (each.seek(0) or each.read().decode() for each in (output, errors))
        return subprocess.CompletedProcess(["dispatcher", *arguments], code, out, err)

    def close(self) -> None:
        """End it; commands that run go on."""
        self._orders.close()
        self._process.wait(20)


@functools.cache
def zygote() -> Zygote:
    """That of this process."""
    made = Zygote()
    atexit.register(made.close)
    return made


def clean(**environment: str) -> dict[str, str]:
    """This process' environment without the settings of an installation."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    return {**outer, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **environment}


def _serve(orders: socket.socket) -> None:
    """Fork for each order one that forks the command and tells how it ended, so that commands can overlap."""
    for name in _PRELOADED:
        importlib.import_module(name)
    _compile_templates()
    gc.freeze()  # else the first collection in each fork copies what they share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        document, files, _, _ = socket.recv_fds(orders, _MOST, 4)
        if not document:
            return
        if os.fork() == 0:
            orders.close()
            _attend(json.loads(document), *files)
            return
        for number in files:
            os.close(number)


def _compile_templates() -> None:
    """Those that ship: half a second which else every command and program that uses them would take again."""
    from dispatcher.adapters.folder import TemplateFolder, shipped  # noqa: PLC0415 - for the process that forks
    from dispatcher.render import compiled  # noqa: PLC0415 - as above

    folder = TemplateFolder(shipped())
    for name in folder.names():
        version = folder.load(name)
        compiled(version.digest, lambda version=version: version)


def _attend(order: dict[str, Any], stdin: int, output: int, errors: int, status: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        for number, given in enumerate((stdin, output, errors)):
            os.dup2(given, number)
            os.close(given)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        if order["arguments"][0] == "up":
            os.setsid()
            instead_of_programs()
        else:
            load_rig()
        become([*COMMAND, *order["arguments"]], dispatcher.cli.main)
    os.write(status, f"{pid}\n".encode())
    _, ended = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())


if __name__ == "__main__":
    import dispatcher.cli

    with socket.socket(fileno=int(sys.argv[1])) as given:
        _serve(given)
