"""Postfix's smtp-sink, which takes and forgets as fast as anything can, and counts."""

import os
import re
import socket
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Self

_COUNTED = re.compile(rb"mesg=(\d+)")


class PostfixSink:
    """One that runs between ``with`` and its end."""

    def __init__(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port: int = listener.getsockname()[1]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the sink ends
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        command = ["smtp-sink", "-c", *user, f"127.0.0.1:{self.port}", "1000"]
        self._process = subprocess.Popen(command, stdout=self._log)

    def __enter__(self) -> Self:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        """As a relay's setting."""
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    @property
    def count(self) -> int:
        """How many messages it has taken since it was started."""
        size = os.fstat(self._log.fileno()).st_size
        found = _COUNTED.findall(os.pread(self._log.fileno(), 200, max(0, size - 200)))
        return int(found[-1]) if found else 0
