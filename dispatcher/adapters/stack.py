"""Runs ``dispatcher up`` as a child process, for whoever needs a whole stack for a while: demo, tests, benchmarks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from dispatcher.adapters.runtime import read

_COMMAND = (sys.executable, "-c", "from dispatcher.cli import main; main()")
_TAIL = 4000
_LOOK_SECONDS = 0.05


class _Process(Protocol):
    """What is asked of the process that runs it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float = ...) -> int: ...
    def send_signal(self, number: signal.Signals, /) -> None: ...


class Stack:
    """A stack that runs, with these options of ``dispatcher up``, between ``with`` and its end. ``environment`` goes
    over this process' own and holds at least ``DISPATCHER_DATA_DIR``; ``stack.log`` in that folder is its log."""

    command = _COMMAND  # that runs ``dispatcher``, whatever is on the PATH

    def __init__(self, environment: Mapping[str, str], *options: str, ready_seconds: float = 90.0) -> None:
        self.environment = {**os.environ, **environment}
        self.folder = Path(environment["DISPATCHER_DATA_DIR"])
        self._options, self._ready_seconds = options, ready_seconds
        self._process: _Process | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until every lane is served. Raises RuntimeError with the end of the log."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log = (self.folder / "stack.log").open("ab")
        self._process = self._spawn(self._log)
        if not self._ready(self._process):
            self.stop()
            raise RuntimeError(f"the stack did not come up: {self.log()[-_TAIL:]}")

    def _spawn(self, log: IO[bytes]) -> "_Process":
        return subprocess.Popen(  # noqa: S603 - our own command
            [*_COMMAND, "up", *self._options], env=self.environment, stdout=log, stderr=log, start_new_session=True
        )

    def _ready(self, process: "_Process") -> bool:
        """Wait until it says that every lane is served; False when that takes too long, or the stack has ended."""
        until = time.monotonic() + self._ready_seconds
        while process.poll() is None and time.monotonic() < until:
            found = read(self.folder)
            if found is not None and found["pid"] == process.pid and found.get("ready"):
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def stop(self, seconds: float = 60.0) -> int:
        """Ask it to drain and stop; killed when it does not in time. Its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None
        return code

    def run(
        self, *arguments: str, stdin: str | None = None, timeout: float = 300.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a ``dispatcher`` command against this stack."""
        return subprocess.run(  # noqa: S603 - our own command
            [*_COMMAND, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """The JSON document that a command prints with ``--json``."""
        done = self.run(*arguments, "--json")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr or done.stdout}") from None

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None  # noqa: S101 - a stack that was not started has none
        return self._process.pid

    def log(self) -> str:
        """What the stack has written so far."""
        return (self.folder / "stack.log").read_text(encoding="utf-8", errors="replace")
