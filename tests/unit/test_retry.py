"""The decision table: what becomes of a delivery after each kind of result."""

import pytest

from dispatcher.delivery import State
from dispatcher.reply import NoReply, Phase, Reply, ReplyClass
from dispatcher.retry import Decision, RetryPolicy, decide

POLICY = RetryPolicy(schedule=(60, 300, 900), jitter=0.0)


def decided(result: Reply | NoReply, **changes: object) -> Decision:
    facts: dict[str, object] = {
        "attempts": 0,
        "remaining": 86400.0,
        "policy": POLICY,
        "if_in_doubt": "resend",
        "luck": 0.5,
    }
    return decide(result, **{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "state", "attempted"),
    [
        (Reply(250, "queued"), State.SENT, True),
        (Reply(451, "try later", "4.7.1", Phase.RCPT), State.DEFERRED, True),
        (Reply(450, "mailbox busy"), State.DEFERRED, True),
        (Reply(550, "no such user", "5.1.1", Phase.RCPT), State.BOUNCED, True),
        (Reply(552, "too large", "5.3.4", Phase.MAIL), State.BOUNCED, True),
        (Reply(554, "because"), State.BOUNCED, True),
        (Reply(550, "daily sending quota", "5.4.5", Phase.MAIL), State.QUEUED, False),
        (Reply(535, "credentials", "5.7.8", Phase.MAIL), State.QUEUED, False),
        (Reply(421, "closing", None, Phase.MAIL), State.QUEUED, False),
        (Reply(421, "closing", None, Phase.FINAL), State.DEFERRED, True),
        (NoReply(Phase.RCPT, "closed"), State.DEFERRED, True),
        (NoReply(Phase.DATA, "closed"), State.DEFERRED, True),
        (NoReply(Phase.FINAL, "timed out"), State.QUEUED, True),
    ],
)
def test_each_result_leads_to_its_state(result: Reply | NoReply, state: State, attempted: bool) -> None:
    decision = decided(result)
    assert (decision.state, decision.attempted) == (state, attempted)


@pytest.mark.parametrize(
    ("result", "trouble"),
    [
        (Reply(550, "daily sending quota", "5.4.5", Phase.MAIL), ReplyClass.RATE),
        (Reply(535, "credentials", "5.7.8", Phase.MAIL), ReplyClass.ACCOUNT),
        (Reply(421, "closing", None, Phase.MAIL), ReplyClass.RELAY),
        (Reply(421, "closing", None, Phase.FINAL), ReplyClass.RELAY),
        (Reply(250, "ok"), None),
        (Reply(550, "no such user", "5.1.1", Phase.RCPT), None),
        (Reply(451, "later"), None),
    ],
)
def test_only_the_relays_own_trouble_asks_for_a_pause(result: Reply, trouble: ReplyClass | None) -> None:
    assert decided(result).trouble is trouble


def test_a_refusal_to_relay_for_one_recipient_stops_nobody_else() -> None:
    decision = decided(Reply(554, "service not reachable", "5.3.2", Phase.RCPT))
    assert decision == Decision(State.QUEUED, attempted=False, due_in=300.0)


def test_silence_after_the_final_dot_is_held_in_doubt_where_the_submission_says_so() -> None:
    assert decided(NoReply(Phase.FINAL), if_in_doubt="hold").state is State.IN_DOUBT


def test_delays_grow_by_the_schedule_and_the_last_one_repeats() -> None:
    delays = [decided(Reply(451), attempts=n).due_in for n in range(5)]
    assert delays == [60, 300, 900, 900, 900]


def test_a_delay_past_the_lifetime_expires_the_mail_and_blames_nobody() -> None:
    assert decided(Reply(451), remaining=59.0).state is State.EXPIRED
    assert decided(Reply(451), remaining=61.0).state is State.DEFERRED


def test_jitter_spreads_both_ways_by_its_share() -> None:
    policy = RetryPolicy(schedule=(100,), jitter=0.1)
    assert policy.delay(1, 0.0) == pytest.approx(90)
    assert policy.delay(1, 0.5) == pytest.approx(100)
    assert policy.delay(1, 0.999) == pytest.approx(110, abs=0.1)
