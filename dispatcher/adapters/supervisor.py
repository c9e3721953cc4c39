"""Keeps the processes of one machine running: starts them, starts again what dies, stops them in order.

Each runs in a process group of its own, so that Ctrl-C reaches the supervisor alone, and ends when the supervisor
dies (on Linux the kernel sees to that).
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

FIRST_DELAY, LONGEST_DELAY, HEALTHY_SECONDS = 0.5, 30.0, 60.0
LOOK_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1
_prctl: Any = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running. Programs stop by ``stage``, lowest first; one that does not end within ``grace``
    seconds of SIGTERM is killed, and so is one that somebody has stopped (SIGSTOP) for ``frozen`` seconds (None: it
    may). ``environment`` goes over the supervisor's own and may hold secrets."""

    name: str
    command: tuple[str, ...]
    stage: int = 0
    grace: float = 10.0
    frozen: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Supervised:
    """A program and the process that runs it now; ``restarts`` counts how often it had to be started again."""

    def __init__(self, program: Program, log_dir: Path | None) -> None:
        self.program, self.restarts = program, 0
        self._log_dir = log_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._started = self._again_at = 0.0
        self._still = 0  # looks in a row: seconds would also count those in which we stood still ourselves
        self._delay = FIRST_DELAY

    @property
    def pid(self) -> int | None:
        """None while it waits to be started again."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Run it. Raises OSError when it cannot be run at all."""
        self._started, self._still = time.monotonic(), 0
        with self._output() as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                self.program.command,
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.program.environment},
                process_group=0,
                preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509 - one system call, resolved before the fork
            )
        if self._process.stdout is not None:
            pump = threading.Thread(target=_pump, args=(self.program.name, self._process.stdout), daemon=True)
            pump.start()
            self._pump = pump

    def look(self) -> str | None:
        """See whether it lives; start it again when it is time to. What happened, if something did."""
        now = time.monotonic()
        if self._process is None:
            if now < self._again_at:
                return None
            self.restarts += 1
            self.start()
            return f"{self.program.name} was started again (pid {self.pid})"
        if self._process.poll() is None:
            return self._look_at_frozen(self._process.pid)
        ended = _ended(self._process.returncode)
        self._delay = FIRST_DELAY if now - self._started >= HEALTHY_SECONDS else self._delay
        self._again_at, wait = now + self._delay, self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        self._gone()
        return f"{self.program.name} {ended}; it is started again in {wait:g} s"

    def ask_to_stop(self) -> None:
        """SIGTERM to the process itself; it knows best how to end its children."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stopped(self) -> bool:
        """Whether it has ended."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it and whatever it has started, at once."""
        if self._process is not None:
            _kill_group(self._process.pid)
            self._process.wait()

    def forget(self) -> None:
        """After its end: what it left of its process group goes too."""
        if self._process is not None:
            _kill_group(self._process.pid)
            self._gone()

    def _look_at_frozen(self, pid: int) -> str | None:
        """What stands still serves nobody, and its children may be in the middle of a mail for ever."""
        if self.program.frozen is None:
            return None
        self._still = self._still + 1 if _stopped(pid) else 0
        if self._still * LOOK_SECONDS <= self.program.frozen:
            return None
        _kill_group(pid)
        return f"{self.program.name} stood still for {self.program.frozen:g} s and is killed"

    def _gone(self) -> None:
        self._process = None
        if self._pump is not None:
            self._pump.join(timeout=0.5)  # a grandchild may hold the pipe for longer
            self._pump = None

    def _output(self) -> "_Output":
        return _Output(None if self._log_dir is None else self._log_dir / f"{self.program.name}.log")


class Supervisor:
    """Runs programs from ``start`` to ``stop``. ``say`` takes one line for each thing that happens."""

    def __init__(self, *, log_dir: Path | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self.children: list[Supervised] = []
        self._log_dir, self._say = log_dir, say
        self._orphans: dict[int, float] = {}

    def start(self, program: Program) -> None:
        """Run it from now on. Raises OSError when it cannot be run at all."""
        child = Supervised(program, self._log_dir)
        child.start()
        self.children.append(child)

    def log_of(self, child: Supervised) -> Path | None:
        """The file that it writes to; None: it goes with ours."""
        return None if self._log_dir is None else self._log_dir / f"{child.program.name}.log"

    def look(self) -> bool:
        """One look at every child: whether something changed. Call it often."""
        changed = False
        for child in self.children:
            group = child.pid
            if (event := child.look()) is not None:
                changed = True
                self._say(event)
                if child.pid is None and group is not None:
                    # What it had started may be in the middle of a mail: it gets the time to end by itself.
                    self._orphans[group] = time.monotonic() + child.program.grace
        self._clear_orphans()
        return changed

    def stop(self, impatient: Callable[[], bool] = lambda: False) -> None:
        """Stop stage by stage. What is over its grace, or whatever still runs when ``impatient``, is killed."""
        for stage in sorted({child.program.stage for child in self.children}):
            group = [child for child in self.children if child.program.stage == stage]
            for child in group:
                child.ask_to_stop()
            began = time.monotonic()
            while waiting := [child for child in group if not child.stopped()]:
                for child in waiting:
                    late = time.monotonic() - began > child.program.grace
                    if impatient() or late:
                        why = "does not stop in time and is killed" if late else "is killed, since we were asked twice"
                        self._say(f"{child.program.name} {why}")
                        child.kill()
                time.sleep(LOOK_SECONDS / 2)
            for child in group:
                child.forget()
        for group_id in self._orphans:
            _kill_group(group_id)

    def _clear_orphans(self) -> None:
        for group, until in list(self._orphans.items()):
            if not _group_lives(group):
                del self._orphans[group]
            elif time.monotonic() > until:
                _kill_group(group)


class StopRequests:
    """Counts SIGTERM, SIGINT and SIGHUP between ``with`` and its end: one means stop, two mean now. A SIGHUP that is
    ignored already, as under nohup, stays so."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._count)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _count(self, *_: object) -> None:
        self.count += 1


class _Output:
    """Where a child writes: a file that is appended to, or (None) a pipe."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> IO[bytes] | None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._path.open("ab")
        return self._file

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _end_with(parent: int) -> Callable[[], None] | None:
    """Run in the child, before its program: ask the kernel for SIGTERM when the parent dies."""
    if _prctl is None:
        return None

    def ask() -> None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def _pump(name: str, lines: IO[bytes]) -> None:
    """Pass a child's lines on, each with its name before it."""
    head = f"{name:<13} | ".encode()
    with lines:
        for line in lines:
            try:
                sys.stderr.buffer.write(head + line.rstrip(b"\n") + b"\n")
                sys.stderr.buffer.flush()
            except (OSError, ValueError):
                continue  # nobody reads our log any more; the child's pipe must be emptied all the same


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:  # no such folder here, or it has ended
        return False


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
