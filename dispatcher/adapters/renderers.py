"""Programs of the operator that make files: each a process of its own, with a time to live and a size that its file may
have, and nothing of our settings."""

import contextlib
import errno
import json
import mimetypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, BinaryIO

from dispatcher.errors import LedgerUnavailable, RenderError
from dispatcher.filetype import HEAD_BYTES, misnamed
from dispatcher.mail import Blob
from dispatcher.naming import argument, named, part_fault

Program = Sequence[str] | str  # the arguments of a command, or "module:function"
_OUT = "out"  # in its arguments: where the file is to be
_SAID = 2000  # bytes of what it complains of
_SHOWN = 200
_OF_THE_MAIL = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.EISDIR, errno.EACCES})
_NO_PROGRAM = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.E2BIG})
_OURS = "DISPATCHER_"


class CommandRenderers:
    """``interfaces.Renderers``: commands with ``{out}`` and the names of values in braces, without a shell, or
    Python functions ``function(values, out)``. A command reads the values as JSON on stdin, too."""

    def __init__(
        self, programs: Mapping[str, Program], put: Callable[[BinaryIO], Blob], *, seconds: float, max_bytes: int
    ) -> None:
        self._programs, self._put, self._seconds, self._max = programs, put, seconds, max_bytes

    @property
    def names(self) -> Collection[str]:
        return self._programs.keys()

    def wanted(self, name: str) -> AbstractSet[str]:
        program = self._programs[name]
        return set() if isinstance(program, str) else set().union(*map(named, program)) - {_OUT}

    def render(self, name: str, filename: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        where = f"renderer {name}"
        if fault := part_fault(filename):
            raise RenderError(where, fault)
        with of_this_machine(where), tempfile.TemporaryDirectory(prefix="render-") as folder:
            out = Path(folder) / filename
            run(where, self._command(name, values, out), values, folder, seconds=self._seconds, max_bytes=self._max)
            blob = self._stored(where, out)
        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        return {"blob": blob.id, "size": blob.size, "filename": filename, "content_type": content_type}

    def _command(self, name: str, values: Mapping[str, Any], out: Path) -> list[str]:
        program = self._programs[name]
        if isinstance(program, str):
            return [sys.executable, "-m", "dispatcher.adapters.render_call", program, str(out)]
        try:
            return [argument(each, {**values, _OUT: str(out)}) for each in program]
        except ValueError as error:
            raise RenderError(f"renderer {name}", str(error)) from None

    def _stored(self, where: str, out: Path) -> Blob:
        try:
            if out.is_symlink() or not out.is_file():
                raise RenderError(where, f"has made no file {out.name}")
            if out.stat().st_size > self._max:
                raise RenderError(where, f"has made more than {self._max:,} bytes")
            with out.open("rb") as file:
                if fault := misnamed(out.name, file.read(HEAD_BYTES)):
                    raise RenderError(where, f"has made {out.name}, which {fault}")
                file.seek(0)
                return self._put(file)
        except PermissionError as error:
            raise RenderError(where, f"{out.name} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def of_this_machine(where: str) -> Iterator[None]:
    """A full disk, too many files, a program that is being replaced: that is no fault of the mail, which waits."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THE_MAIL:
            raise RenderError(where, f"cannot be done: {error.strerror}") from None
        raise LedgerUnavailable(f"{where}: {error.strerror or error}") from error


def run(
    where: str,
    command: Sequence[str],
    values: Mapping[str, Any],
    folder: str,
    *,
    seconds: float,
    max_bytes: int,
    output: BinaryIO | None = None,
) -> None:
    """Run a command with these values on stdin, to its end or for so long; nothing that it has begun outlives it. What
    it says on stdout goes to ``output``. Raises RenderError, and OSError where this machine has no room for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        told.write(json.dumps(dict(values), ensure_ascii=False).encode())
        told.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own, from the settings
                command, stdin=told, stdout=output or subprocess.DEVNULL, stderr=said, cwd=folder, env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            if error.errno not in _NO_PROGRAM:
                raise
            raise RenderError(where, f"{command[0]} cannot be run: {error.strerror}") from None
        code = _ended(process, seconds, max_bytes)
        if code is None:
            raise RenderError(where, f"took more than {seconds:g} s and was stopped")
        if code == -signal.SIGXFSZ:
            raise RenderError(where, f"has made more than {max_bytes:,} bytes and was stopped")
        if code:
            said.seek(max(0, said.tell() - _SAID))
            lines = said.read(_SAID).decode("utf-8", "replace").strip().splitlines() or [""]
            raise RenderError(where, f"ended with {code}: {lines[-1][:_SHOWN]}".rstrip(": "))


def _ended(process: "subprocess.Popen[bytes]", seconds: float, max_bytes: int) -> int | None:
    """Its exit code; None when its time was over. All of its session ends with it."""
    try:
        # From outside: a function to be called after the fork is not safe where there are threads.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
        return process.wait(seconds)
    except ProcessLookupError:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
