"""``dispatcher pages`` as a process: it answers over a real socket, waits for its port, and ends when told."""

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dispatcher.unsubscribe import token
from tests.servers import free_port
from tests.waiting import wait_for
from tests.zygote import COMMAND, clean

KEY = "k" * 32


class Served:
    """The process, and its address."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "log"
        environment = clean(
            DISPATCHER_DATA_DIR=str(folder / "var"),
            DISPATCHER_PAGES__LISTEN=f"127.0.0.1:{port}",
            DISPATCHER_SECRET_KEYS=KEY,
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "pages", *options], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, dict(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read().decode()

    def ready(self) -> bool:
        try:
            return self.ask("/health")[0] == 200
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def serving(folder: Path, port: int, *options: str) -> Iterator[Served]:
    served = Served(folder, port, *options)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.wait(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, free_port(), "--json") as found:
        wait_for(found.ready)
        yield found


def test_it_answers_browsers_and_mail_clients_and_ends_when_told(served: Served, tmp_path: Path) -> None:
    path = f"/unsubscribe/{token('ada@example.com', 'news', KEY)}"
    status, headers, text = served.ask(path, **{"Accept-Language": "zh-CN"})
    assert (status, headers["Content-Language"]) == (200, "zh-CN")
    assert "ada@example.com" in text
    assert "Server" not in headers
    assert served.ask(path, b"List-Unsubscribe=One-Click")[0] == 200
    assert "You are unsubscribed" in served.ask(path)[2]
    assert served.ask(f"{path}x", b"List-Unsubscribe=One-Click")[0] == 404
    assert served.ask(path, b"x" * 70_000)[0] == 413
    assert served.ask(path, b"x" * 300_000)[0] == 413
    said: Any = json.loads(served.log.read_text())
    assert said == {"url": served.url, "public_url": served.url}
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(10) == 0
    assert "Traceback" not in served.log.read_text()
    # What was not named in the settings would have been made here.
    assert not (tmp_path / "var" / "secret_keys").exists()


def test_a_port_that_another_has_is_told_or_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with serving(tmp_path, port) as refused:
            assert refused.process.wait(20) == 2
            assert f"pages.listen: cannot listen on 127.0.0.1:{port}: Address already in use" in refused.log.read_text()
        with serving(tmp_path, port, "--wait") as patient:
            wait_for(lambda: "the pages wait for it to end" in patient.log.read_text(), 20)
            other.close()
            wait_for(patient.ready, 20)
            patient.process.send_signal(signal.SIGTERM)
            assert patient.process.wait(10) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_it_stays_small(served: Served) -> None:
    for n in range(200):
        served.ask(f"/unsubscribe/{token(f'{n}@example.com', 'news', KEY)}", b"List-Unsubscribe=One-Click")
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    (rss,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert rss < 120_000  # kB
