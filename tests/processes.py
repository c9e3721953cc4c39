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
from dispatcher.servers.sink import Sink
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
with Sink(record=Path(sys.argv[1])) as sink:
    print(sink.url, flush=True)
    stop.wait()
"""


@contextmanager
def sink_process(record: Path) -> Iterator[str]:
    """A recording sink in a process of its own, so that it does not share the test's interpreter lock; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SINK, str(record)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


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
