"""Starts the programs of a stack as forks of a process that has done their imports: each is what ``exec`` would have
made of the command, but for the two seconds that it would have taken to get there, and for what Python does at exit:
``tests/e2e`` has stacks that are started for real."""

import contextlib
import ctypes
import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

_TITLE = 400  # bytes of the command line that are ours to write in
PADDING = " " * _TITLE  # for the command line of whoever shall have room for other titles
_RIG = Path(__file__).parent / "faults" / "rig"
_POPEN = subprocess.Popen
_DEFAULTS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD)


def instead_of_programs() -> None:
    """From now on ``subprocess.Popen`` forks where it is asked for Python programs of this project."""
    subprocess.Popen = _start  # type: ignore[misc, assignment]  # of the few ways that the supervisor uses


def become(command: Sequence[str], run: Callable[[], object]) -> NoReturn:
    """Be the program of this command until its end."""
    sys.argv = [command[2] if command[1] == "-m" else "dispatcher", *command[3:]]
    sys.orig_argv = list(command)
    _show(command)
    time.tzset()
    code: Any = 0
    try:
        run()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        traceback.print_exc()
        code = 1
    finally:
        if not isinstance(code, int | None):
            sys.stderr.write(f"{code}\n")
            code = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code or 0)


def _program(command: Sequence[str]) -> Callable[[], object] | None:
    """What runs this command within the interpreter; None: it is no program of ours, or not to be forked."""
    if command[:3] == [sys.executable, "-m", "tasks"]:
        return _tasks
    if command[:2] == [sys.executable, "-c"] and "dispatcher.cli" in command[2]:
        return _cli
    return None


def load_rig() -> None:
    """As Python does when it begins, where there is one."""
    if "RIG" in os.environ:
        sys.path.insert(0, str(_RIG))
        importlib.import_module("sitecustomize")


def _tasks() -> None:
    load_rig()
    from tasks.__main__ import main  # noqa: PLC0415 - it reads the settings, which are this process' own

    main()


def _cli() -> None:
    from dispatcher.cli import main  # noqa: PLC0415 - as above

    main()


class _Forked:
    """A program that was forked, as ``subprocess.Popen`` would show it to the supervisor."""

    def __init__(self, pid: int, stdout: IO[bytes] | None) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self) -> int | None:
        return self._ended(0)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _start(args: Sequence[str], **options: Any) -> "_Forked | subprocess.Popen[bytes]":
    """Fork a program of ours; anything else, and what is to live by another clock, is started as ever."""
    run = None if "RIG_AHEAD" in os.environ else _program(list(args))
    if run is None:
        return _POPEN(args, **options)
    output, reading = options.get("stdout"), None
    if output == subprocess.PIPE:
        reading, output = os.pipe()
    elif output == subprocess.DEVNULL:
        output = os.open(os.devnull, os.O_WRONLY)
    elif output is not None:
        output = os.dup(output.fileno())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the threads that read logs: they stay behind
        pid = os.fork()
    if pid == 0:
        _begin(output, options)
        become(args, run)
    if output is not None:
        os.close(output)
    return _Forked(pid, None if reading is None else os.fdopen(reading, "rb"))


def _begin(output: int | None, options: Mapping[str, Any]) -> None:
    """What ``exec`` and ``subprocess`` do: nothing of the parent's is left but what the options give."""
    if options.get("process_group") is not None:
        os.setpgid(0, options["process_group"])
    for number in _DEFAULTS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if (prepare := options.get("preexec_fn")) is not None:
        prepare()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if output is not None:
        os.dup2(output, 1)
        os.dup2(output, 2)
    os.closerange(3, 4096)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, buffering=1, encoding="utf-8", errors=errors)
        for number, mode, errors in ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
    )
    if (environment := options.get("env")) is not None:
        os.environ.clear()
        os.environ.update(environment)
    warnings.resetwarnings()
    if os.environ.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    else:  # as Python begins
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)


def _show(command: Sequence[str]) -> None:
    """Let this process be seen under its own command line."""
    if sys.platform != "linux":
        return
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    title = b"\0".join(word.encode() for word in command)[: end - begin - 1]
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, title, len(title))
