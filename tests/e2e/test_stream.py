"""Any language hands mail over on the Redis stream, and it is delivered: the examples and the page, as they stand."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dispatcher.adapters.stack import Stack
from tests import orders
from tests.commands import QuickStack
from tests.processes import sink_process
from tests.servers import missing, require
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "stream"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    with sink_process(folder / "sink.jsonl") as url:
        environment = {"DISPATCHER_DATA_DIR": str(folder / "var"), "DISPATCHER_RELAY_URL": url}
        with QuickStack(environment, "--no-flower") as stack:
            yield stack


@pytest.fixture(scope="module")
def producer(stack: Stack) -> dict[str, str]:
    """The environment of a program that knows the broker and nothing else."""
    url = stack.run("broker-url").stdout.strip()
    parts = urlsplit(url)
    return {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "REDIS_URL": url,
        "REDIS_HOST": parts.hostname or "",
        "REDIS_PORT": str(parts.port),
        "REDISCLI_AUTH": parts.password or "",
    }


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node example with its library, outside of this folder."""
    npm, folder = require("npm"), tmp_path_factory.mktemp("node")
    for name in ("package.json", "send.mjs"):
        shutil.copy(EXAMPLES / name, folder)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel", "error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        missing("a registry of npm packages", done.stderr)
    return folder


@pytest.fixture(params=["shell", "python", "node"])
def example(request: pytest.FixtureRequest) -> list[str]:
    """The command that runs an example."""
    if request.param == "python":
        return [sys.executable, str(EXAMPLES / "send.py")]
    if request.param == "node":
        return [require("node"), str(request.getfixturevalue("node_modules") / "send.mjs")]
    require("redis-cli")
    return ["sh", str(EXAMPLES / "send.sh")]


def test_an_example_delivers_one_mail_however_often_it_is_run(
    example: list[str], stack: Stack, producer: dict[str, str], folder: Path
) -> None:
    order = f"SO-{Path(example[-1]).suffix}"
    for _ in range(2):
        done = subprocess.run([*example, order], env=producer, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        assert re.match(r"handed over as \d+-\d+; see: dispatcher messages list ", done.stdout)
    shown = done.stdout.partition("see: dispatcher ")[2].split()
    wait_for(lambda: [found["state"] for found in stack.json(*shown)] == ["sent"], 30)
    wait_for(lambda: _length(producer) == 0, 10)
    (mail,) = [r.email for r in orders.read(folder / "sink.jsonl") if order in str(r.email["Subject"])]
    assert "李雷" in orders.text_of(mail)


def test_an_example_says_so_when_redis_refuses(example: list[str], producer: dict[str, str]) -> None:
    refused = {**producer, "REDIS_PORT": "1", "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(example, env=refused, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert "refused" in done.stderr.lower()


def test_the_pages_redis_cli_delivers(stack: Stack, producer: dict[str, str], folder: Path) -> None:
    require("redis-cli")
    first, second = _BLOCK.findall((ROOT / "docs" / "producers.md").read_text(encoding="utf-8"))
    script = first.replace("export REDISCLI_AUTH", ": REDISCLI_AUTH")  # the embedded broker's is in the environment
    done = subprocess.run(["sh", "-c", script], env=producer, capture_output=True, text=True, check=True, timeout=30)
    assert re.fullmatch(r"\d+-\d+\n", done.stdout), done.stdout
    look = second.splitlines()[0].split()[1:]
    wait_for(lambda: [found["state"] for found in stack.json(*look)] == ["sent"], 30)
    assert [r for r in orders.read(folder / "sink.jsonl") if r.rcpt_to == ("ada@example.com",)]


def test_what_is_refused_is_kept_and_can_be_submitted_again_when_its_cause_is_gone(
    stack: Stack, producer: dict[str, str]
) -> None:
    early = '{"to": ["bob@example.com"], "from": "a@example.com", "subject": "Hi", "text": "x", "relay": "later"}'
    entries = [_add(producer, "submission", text) for text in (early, '{"to": [')]
    found = wait_for(lambda: len(kept := stack.json("rejects", "list")) == 2 and kept, 30)
    numbers = {reject["reference"]: str(reject["id"]) for reject in found if reject["door"] == "stream"}
    assert set(numbers) == set(entries)

    done = stack.run("rejects", "resubmit", numbers[entries[1]], "--yes")
    assert done.returncode == 1
    assert f"dispatcher: {numbers[entries[1]]}: its payload is no JSON" in done.stderr

    stack.environment["DISPATCHER_RELAYS__LATER__URL"] = "smtp://127.0.0.1:1"
    done = stack.run("rejects", "resubmit", numbers[entries[0]], "--yes")
    del stack.environment["DISPATCHER_RELAYS__LATER__URL"]
    assert done.returncode == 0, done.stderr
    (again,) = stack.json("messages", "list", "--idempotency-key", f"stream:{entries[0]}")
    assert again["to"] == "bob@example.com"


def _redis(producer: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [require("redis-cli"), "-h", producer["REDIS_HOST"], "-p", producer["REDIS_PORT"], *words],
        env=producer,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def _add(producer: dict[str, str], *fields: str) -> str:
    return _redis(producer, "XADD", "mail:submissions", "*", *fields)


def _length(producer: dict[str, str]) -> int:
    return int(_redis(producer, "XLEN", "mail:submissions"))
