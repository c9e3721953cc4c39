"""The log: a line per attempt as postmasters grep it, or JSON; addresses masked where that is asked for."""

import json
import subprocess
import sys

import pytest

from dispatcher.adapters.log import masked

SCRIPT = """
import sys
from dispatcher.adapters.log import LogSink, configure
from dispatcher.delivery import Lane, State
from dispatcher.events import CampaignEnded, DeliveryTried, LedgerAway, RelayPaused
form, addresses = sys.argv[1:]
configure(form)
sink = LogSink(form, addresses)
ids = "abc-1-x", "abc"
sink(DeliveryTried(*ids, Lane.BULK, "ada@example.com", "main", State.SENT, "250 2.0.0 Ok", "2.0.0", 1.234, 1))
sink(RelayPaused("main", "relay: refused", 5.0))
sink(LedgerAway("locked", 7))
sink(CampaignEnded("spring", "finished", {"sent": 3, "bounced": 1}, "from: required"))
import logging
logging.getLogger("celery.worker").warning("theirs")
"""

MANY = """
import os
from dispatcher.adapters.log import LogSink, configure
from dispatcher.delivery import Lane, State
from dispatcher.events import BatchEnded, DeliveryTried
configure("text")
sink = LogSink("text", "full")
for n in range(5):
    sink(DeliveryTried(f"abc-{n}-x", "abc", Lane.BULK, f"{n}@x.example", "main", State.SENT, "250 Ok", None, 1.0, 1))
sink(BatchEnded())
os._exit(0)
"""


def logged(form: str, addresses: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, form, addresses], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_an_attempt_is_one_line_with_its_ids() -> None:
    attempt, paused, away, ended, untold, theirs = logged("text", "full")
    assert (
        "abc-1-x: to=<ada@example.com> relay=main lane=bulk attempt=1 delay=1.23 dsn=2.0.0 status=sent (250 2.0.0 Ok)"
    ) in attempt
    assert "relay paused relay=main seconds=5 reason=relay: refused" in paused
    assert "ledger away, outcomes wait reason=locked waiting=7" in away
    assert "a campaign is finished campaign=spring sent=3 bounced=1" in ended
    assert "its owner could not be told campaign=spring reason=from: required" in untold
    assert "celery.worker: theirs" in theirs


def test_json_is_one_object_a_line_celerys_too() -> None:
    attempt, *others = map(json.loads, logged("json", "full"))
    assert (attempt["event"], attempt["id"], attempt["to"]) == ("attempt", "abc-1-x", "ada@example.com")
    assert (attempt["status"], attempt["dsn"], attempt["delay"]) == ("sent", "2.0.0", 1.23)
    assert [other["event"] for other in others][-1] == "theirs"


@pytest.mark.parametrize("form", ["text", "json"])
def test_masked_addresses_show_the_domain_only(form: str) -> None:
    attempt = logged(form, "masked")[0]
    assert "a***@example.com" in attempt
    assert "ada@" not in attempt


def test_masking_keeps_a_first_letter() -> None:
    assert masked("ada@example.com") == "a***@example.com"
    assert masked('"a b"@example.com') == '"***@example.com'


def test_attempts_that_follow_each_other_closely_are_all_written_when_their_batch_is_through() -> None:
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True)
    assert [f"abc-{n}-x: to=<{n}@x.example>" in line for n, line in enumerate(done.stderr.splitlines())] == [True] * 5
