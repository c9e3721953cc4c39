"""``dispatcher demo`` is the promise of the front page: it must hold, and leave nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.adapters.valkey import find_server
from dispatcher.errors import ConfigurationError

COMMAND = (sys.executable, "-c", "from dispatcher.cli import main; main()", "demo")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With settings of a real installation around, which the demo must not touch."""
    try:
        find_server(None)
    except ConfigurationError as error:
        pytest.skip(str(error))
    return {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "DISPATCHER_DATA_DIR": str(tmp_path / "real"),
        "DISPATCHER_RELAY_URL": "smtp://relay.invalid",
    }


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_demo_delivers_reads_back_and_cleans_up(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--orders", "7", "--bulk", "20", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["states"] == {"sent": 28, "bounced": 1}
    boxes = {row["mailbox"]: (row["mails"], row["attachments"]) for row in found["mailboxes"]}
    assert boxes["gone@example.com"] == (0, 0)
    assert boxes["busy@example.com"] == (1, 1)
    assert boxes["lilei@example.com"] == (2, 1)
    assert boxes["reader001@example.com to reader020@example.com"] == (20, 0)
    assert "Flower shows it at http://127.0.0.1:" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_demo_that_cannot_start_says_why_and_fails(environment: dict[str, str], tmp_path: Path) -> None:
    environment["DISPATCHER_REDIS_SERVER"] = str(tmp_path / "no-server")
    done = subprocess.run([*COMMAND], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DISPATCHER_REDIS_SERVER: no program at" in done.stderr
    assert "Traceback" not in done.stderr
