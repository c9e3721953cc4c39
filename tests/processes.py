"""Processes that tests start: each on a free loopback port, each ended by its pid."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dispatcher.adapters.stack import Stack
from tests.waiting import wait_for

_SINK = """
import sys, signal, threading
from pathlib import Path
from dispatcher.servers.sink import Script, Sink
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
script = Script.read(Path(sys.argv[4]))
def follow(*_):
    sink.follow(Script.read(Path(sys.argv[4])))
    print("it does", flush=True)
signal.signal(signal.SIGHUP, follow)
with Sink(record=Path(sys.argv[1]), port=int(sys.argv[2]), final_seconds=float(sys.argv[3]), script=script) as sink:
    print(sink.url, flush=True)
    stop.wait()
"""


class SinkProcess:
    """A recording sink in a process of its own, so that it does not share the test's interpreter lock.

    ``script`` is the text of a script (docs/fault-sink.md); what its rules have counted goes with the process.
    """

    def __init__(self, record: Path, final_seconds: float = 0.0, script: str = "") -> None:
        self.record, self.url, self._final_seconds = record, "", final_seconds
        self._script, self._path = script, record.with_suffix(".toml")
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, again if need be, on the same port and into the same record."""
        self._path.write_text(self._script, encoding="utf-8")
        arguments = (self.record, self._port, self._final_seconds, self._path)
        command = [sys.executable, "-c", _SINK, *map(str, arguments)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self._port = int(self.url.partition("?")[0].rpartition(":")[2])

    def follow(self, script: str) -> None:
        """Go by these rules from now on, over connections that are open, too."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._script = script
        self._path.write_text(script, encoding="utf-8")
        self._process.send_signal(signal.SIGHUP)
        assert self._process.stdout.readline() == "it does\n"

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process.stdout.close()
            self._process = None


@contextmanager
def sink_process(record: Path, final_seconds: float = 0.0, script: str = "") -> Iterator[str]:
    """Such a sink while the block runs; its URL."""
    sink = SinkProcess(record, final_seconds, script)
    sink.start()
    try:
        yield sink.url
    finally:
        sink.stop()


def children(pid: int) -> list[int]:
    """The pids of a process' children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def command(pid: int) -> str:
    """A process' command line; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def member(stack: Stack, pattern: str) -> int:
    """The pid of the process of a stack whose command line fits, such as ``mail.transactional`` or ``beat``."""
    if sys.platform != "linux":
        pytest.skip("finding processes needs /proc")
    return wait_for(lambda: next((pid for pid in children(stack.pid) if re.search(pattern, command(pid))), 0))


def kill(pid: int) -> None:
    """SIGKILL; it may have ended already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_host(stack: Stack) -> None:
    """SIGKILL to all processes of a stack, as when its machine loses power."""
    found = [stack.pid]
    for pid in found:  # it grows
        found += children(pid)
    for pid in found:
        kill(pid)
    stack.stop()
