"""Thousands of orders through the whole stack: each once, each right, and the sums balance."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import orders
from tests.commands import QuickStack
from tests.processes import sink_process
from tests.sizes import sized

COUNT = sized(800, 5000)
BAD = (7, 77, 777, COUNT + 2)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(params=["embedded-sqlite", "redis-postgres"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    found = {"DISPATCHER_DATA_DIR": str(tmp_path / "var")}
    if request.param == "redis-postgres":
        found["DISPATCHER_BROKER_URL"] = request.getfixturevalue("redis_url")
        found["DISPATCHER_LEDGER_URL"] = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def record(environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "sink.jsonl"
    with sink_process(path) as url:
        environment["DISPATCHER_RELAY_URL"] = url
        yield path


def spoil(n: int, made: dict[str, Any]) -> Any:
    """Four bad lines among the good ones."""
    if n == 7:
        return '{"template": '
    if n == 77:
        return {**made, "templat": "x"}
    if n == 777:
        return {**made, "to": ["nobody"]}
    if n == BAD[-1]:
        return {**made, "data": {"customer": {"name": "x"}}}
    return made


def test_every_order_arrives_once_and_the_sums_balance(
    environment: dict[str, str], record: Path, tmp_path: Path
) -> None:
    lines, bad = tmp_path / "orders.jsonl", BAD
    orders.write(lines, COUNT + len(bad), spoil)
    stack = QuickStack(environment)
    if "DISPATCHER_LEDGER_URL" in environment:
        assert stack.run("db", "upgrade").returncode == 0  # `up` refuses a shared ledger without its tables
    with stack:
        done = stack.run("submit", str(lines), "--json")
        assert done.returncode == 1, done.stderr
        assert json.loads(done.stdout) == {"accepted": COUNT, "duplicate": 0, "rejected": len(bad)}
        for n in bad:
            assert f"orders.jsonl:{n + 1}: " in done.stderr
        assert stack.run("wait", "--idle", "--timeout", "200").returncode == 0

        received = orders.read(record)
        assert len(received) == COUNT
        good = [n for n in range(COUNT + len(bad)) if n not in bad]
        by_buyer = {r.rcpt_to[0]: r for r in received}
        assert set(by_buyer) == {f"buyer{n}@example.com" for n in good}
        for n in good:
            orders.check_one(by_buyer[f"buyer{n}@example.com"], n)

        status = stack.json("status")
        assert status["accepted"] == COUNT
        assert status["states"] == {"sent": COUNT}

        again = stack.run("submit", str(lines), "--json")
        assert json.loads(again.stdout) == {"accepted": 0, "duplicate": COUNT, "rejected": len(bad)}
        assert stack.run("wait", "--idle", "--timeout", "60").returncode == 0
        assert len(orders.read(record)) == COUNT
