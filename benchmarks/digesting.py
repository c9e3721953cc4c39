"""A sink that keeps of each mail who got it and the SHA-256 of each file in it, in a process of its own."""

import contextlib
import hashlib
import json
import os
import socketserver
import subprocess
import sys
from binascii import a2b_base64
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_READ = 1 << 20


class DigestingSink:
    """One that runs between ``with`` and its end. It takes what dispatchers send: base64 parts, no line with a dot."""

    def __init__(self, record: Path) -> None:
        self._record = record
        command = [sys.executable, "-m", __name__, str(record)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"smtp://127.0.0.1:{self._process.stdout.readline().strip()}?tls=none"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def count(self) -> int:
        """How many it has taken."""
        return self._record.read_bytes().count(b"\n") if self._record.exists() else 0

    def __iter__(self) -> Iterator[tuple[str, set[str]]]:
        """Who got which files."""
        for line in self._record.read_text(encoding="utf-8").splitlines():
            address, digests = json.loads(line)
            yield address, set(digests)


class _Session(socketserver.StreamRequestHandler):
    rbufsize = _READ
    record = -1

    def handle(self) -> None:
        """Until the other side is gone: its worker may be killed."""
        with contextlib.suppress(ConnectionError):
            self._talk()

    def _talk(self) -> None:
        to = ""
        self._say("220 sink")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"EHLO":
                self._say("250-sink\r\n250-PIPELINING\r\n250 SIZE 60000000")
            elif verb == b"RCPT":
                to = line.partition(b"<")[2].partition(b">")[0].decode()
                self._say("250 2.1.5 Ok")
            elif verb == b"DATA":
                self._say("354 go on")
                line_written = json.dumps([to, self._files()]) + "\n"
                os.write(self.record, line_written.encode())
                self._say("250 2.0.0 Ok")
            else:
                self._say("221 bye" if verb == b"QUIT" else "250 2.0.0 Ok")

    def _say(self, reply: str) -> None:
        self.wfile.write(f"{reply}\r\n".encode())

    def _files(self) -> list[str]:
        """Read a mail; the digests of its files. Raises ConnectionResetError for one that is cut off."""
        digests: list[str] = []
        body: list[bytes] | None = None
        named = False
        for line in self.rfile:
            if body is not None and not line.startswith(b"--"):
                body.append(line)
                continue
            if body is not None:
                digests.append(hashlib.sha256(a2b_base64(b"".join(body))).hexdigest())
                body = None
            if line == b".\r\n":
                return digests
            if b"filename" in line:
                named = True
            elif line == b"\r\n" and named:
                body, named = [], False
        raise ConnectionResetError


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until it is ended."""
    _Session.record = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with _Server(("127.0.0.1", 0), _Session) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
