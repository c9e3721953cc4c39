"""What a sink has taken: one JSON line for each message, written down before the server says 250."""

import base64
import email
import email.policy
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>\r\n]*>)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Received:
    """One accepted message: its envelope, and its content as it was before dot-stuffing.

    ``time`` is in seconds since the epoch, ``size`` in bytes, ``sha256`` is that of the content, in hex.
    """

    time: float
    mail_from: str
    rcpt_to: tuple[str, ...]
    message_id: str
    sha256: str
    size: int
    content: bytes = field(repr=False)

    @classmethod
    def of(cls, time: float, mail_from: str, rcpt_to: tuple[str, ...], content: bytes) -> "Received":
        head = content.partition(b"\r\n\r\n")[0]
        found = _MESSAGE_ID.search(head)
        return cls(
            time=time,
            mail_from=mail_from,
            rcpt_to=rcpt_to,
            message_id=found[1].decode("ascii", "replace") if found else "",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            content=content,
        )

    @classmethod
    def parse(cls, line: bytes) -> "Received":
        """Read what ``line`` wrote."""
        found = json.loads(line)
        return cls(**(found | {"rcpt_to": tuple(found["rcpt_to"]), "content": base64.b64decode(found["content"])}))

    @property
    def line(self) -> bytes:
        """As JSON, the content in base64, with a line end."""
        found = {name: getattr(self, name) for name in self.__slots__}  # asdict would copy all in depth
        found["content"] = base64.b64encode(self.content).decode("ascii")
        return json.dumps(found).encode() + b"\n"

    @property
    def email(self) -> EmailMessage:
        """The content, parsed."""
        return email.message_from_bytes(self.content, policy=email.policy.default)


class Recording:
    """A file of JSON Lines that is appended to, or a list in memory when it is given no path.

    Iterating reads back what was recorded; with a file also what it held from before. ``count`` is of this run.
    """

    def __init__(self, path: Path | None, *, fsync: bool = False) -> None:
        """Raises BlockingIOError when another recording is being made into that file."""
        self._path, self._fsync = path, fsync
        self._lines: list[bytes] = []
        self.count = 0
        self._file = -1 if path is None else _open_to_append(path)

    @staticmethod
    def read(path: Path) -> Iterator[Received]:
        """Read a file that another process may be recording to."""
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return  # it is being written, or its writer was killed before it said 250
                yield Received.parse(line)

    def append(self, received: Received) -> None:
        """Write it down. When this returns, it survives the end of this process; with ``fsync`` that of the host."""
        self._write(received.line)
        self.count += 1

    def _write(self, line: bytes) -> None:
        if self._path is None:
            self._lines.append(line)
            return
        rest, size = memoryview(line), os.fstat(self._file).st_size
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:  # a full disk: no half line may stay, since the next one would be glued to it
            os.ftruncate(self._file, size)
            raise
        if self._fsync:
            os.fsync(self._file)

    def close(self) -> None:
        """Write no more; reading goes on."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __iter__(self) -> Iterator[Received]:
        if self._path is None:
            return map(Received.parse, tuple(self._lines))
        return self.read(self._path)


def _open_to_append(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two writers would cut off each other's last line
    except BlockingIOError:
        os.close(file)
        raise
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # A line that was cut off by the end of its writer was never answered; the next one must not be glued to it.
        os.truncate(file, path.read_bytes().rfind(b"\n") + 1)
    return file
