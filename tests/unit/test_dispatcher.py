"""The use case on fakes: accept, ring, lease, send, settle."""

import pytest

from dispatcher.delivery import Actor, Lane, Selector, State
from dispatcher.errors import ConnectFailed, IdempotencyConflict, LedgerUnavailable, SubmissionError
from dispatcher.events import DeliveryTried, RelayPaused
from dispatcher.mail import Receipt, Submission
from dispatcher.records import Pause
from dispatcher.reply import NoReply, Phase, Reply
from dispatcher.sweeper import WATERMARK
from dispatcher.testing import MemoryTransport
from tests.stage import ANNA, FILES, MAIL, Stage


def test_what_is_accepted_rings_its_lane_and_is_sent() -> None:
    stage = Stage()
    receipt = stage.submit()
    assert stage.bells.rung == [(Lane.TRANSACTIONAL, receipt.message_ids, "")]
    assert stage.deliver() == 1
    assert stage.states() == [State.SENT]
    (event,) = stage.events
    assert isinstance(event, DeliveryTried)
    assert (event.to, event.relay, event.state, event.dsn) == ("ada@example.com", "main", State.SENT, "2.0.0")


def test_the_python_value_is_taken_like_the_json() -> None:
    stage = Stage()
    assert stage.dispatcher.submit(Submission(to=["a@example.com"], subject="Hi", text="x")).accepted == 1


def test_a_bell_that_finds_nothing_ends_at_once() -> None:
    assert Stage().deliver() == 0


def test_a_mail_for_later_rings_nobody_and_is_found_by_the_sweep_at_its_time() -> None:
    stage = Stage()
    stage.submit(send_at="2027-01-15T08:01:00Z")  # a minute from the clock's now
    assert stage.bells.rung == []
    stage.clock.now += 59
    assert stage.dispatcher.sweep() == 0
    stage.clock.now += 2
    assert stage.dispatcher.sweep() == 1
    assert stage.deliver() == 1


def test_many_answers_each_in_its_order() -> None:
    stage = Stage()
    answers = list(stage.dispatcher.submit_many([MAIL, {**MAIL, "to": ["nobody"]}, MAIL], chunk=2))
    assert [type(answer).__name__ for answer in answers] == ["Receipt", "InvalidAddress", "Receipt"]


def test_a_repeated_submission_is_a_duplicate_even_after_its_time_has_passed() -> None:
    stage = Stage()
    first = stage.submit(idempotency_key="k", send_at="2027-01-15T08:05:00Z")
    stage.clock.now += 3600
    again = stage.submit(idempotency_key="k", send_at="2027-01-15T08:05:00Z")
    assert (again.id, again.duplicate) == (first.id, True)
    with pytest.raises(IdempotencyConflict):
        stage.submit(idempotency_key="k", subject="Other")
    with pytest.raises(SubmissionError, match="in the past"):
        stage.submit(idempotency_key="new", send_at="2027-01-15T08:05:00Z")


def test_a_time_that_has_passed_is_refused_although_another_producer_has_used_the_key() -> None:
    stage = Stage()
    mail = {**MAIL, "idempotency_key": "k", "send_at": "2027-01-15T08:05:00Z"}
    first = stage.dispatcher.submit(mail, producer="erp")
    stage.clock.now += 3600
    with pytest.raises(SubmissionError, match="in the past"):
        stage.dispatcher.submit(mail, producer="crm")
    assert stage.dispatcher.submit(mail, producer="erp").id == first.id


def test_bells_stop_at_the_watermark_and_the_backlog_stays_in_the_ledger() -> None:
    stage = Stage(batch_size=2)
    list(stage.dispatcher.submit_many([MAIL] * 100))
    assert len(stage.bells.rung) == WATERMARK
    list(stage.dispatcher.submit_many([MAIL] * 10))
    assert len(stage.bells.rung) == WATERMARK


def test_nobody_is_woken_for_a_lane_that_is_paused() -> None:
    """Each bell would have a worker look for mail that it may not take, beside those who put it there."""
    stage = Stage()
    stage.ledger.pause("lane", "transactional", None, "wrong price", ANNA)
    stage.submit()
    assert stage.bells.rung == []
    stage.submit(lane="bulk")
    assert [lane for lane, _, _ in stage.bells.rung] == [Lane.BULK]
    stage.ledger.resume("lane", "transactional", ANNA)
    stage.clock.now += 1.0
    stage.submit()
    assert len(stage.bells.rung) == 2


def test_what_is_accepted_is_answered_though_the_ledger_goes_away_before_the_bell() -> None:
    stage = Stage()

    def away() -> list[Pause]:
        raise LedgerUnavailable("away")

    stage.ledger.pauses = away  # type: ignore[method-assign]  # between the commit and the bell
    assert stage.submit().accepted == 1
    assert len(stage.bells.rung) == 1


def test_mails_that_come_one_by_one_stop_at_the_watermark_too() -> None:
    stage = Stage()
    for _ in range(WATERMARK + 5):
        stage.submit()
    assert len(stage.bells.rung) == WATERMARK


def test_one_bell_goes_on_while_batches_are_full() -> None:
    stage = Stage(batch_size=10)
    list(stage.dispatcher.submit_many([MAIL] * 35))
    assert stage.deliver() == 35


def test_a_stop_gives_the_rest_back_at_once_and_spends_no_attempt() -> None:
    stage = Stage()
    list(stage.dispatcher.submit_many([MAIL] * 5))
    stage.dispatcher.deliver(Lane.TRANSACTIONAL, stopping=lambda: len(stage.transport.sent) >= 2)
    assert sorted(stage.states()) == sorted([State.SENT] * 2 + [State.QUEUED] * 3)
    assert stage.deliver() == 3


def test_a_deferred_recipient_is_tried_again_alone_with_the_same_bytes() -> None:
    transport = MemoryTransport("main", {"bob@example.com": [Reply(451, "later", "4.7.1", Phase.RCPT)]})
    stage = Stage([transport])
    stage.submit(cc=["bob@example.com"])
    stage.deliver()
    assert stage.states() == [State.SENT, State.DEFERRED]
    assert stage.deliver() == 0
    stage.clock.now += 61
    assert stage.deliver() == 1
    first, second = transport.sent
    assert [address for _, address in second.rcpt_to] == ["bob@example.com"]
    assert first.content == second.content


def test_relay_trouble_pauses_the_relay_and_the_next_takes_over() -> None:
    main, backup = MemoryTransport("main"), MemoryTransport("backup")
    main.down = ConnectFailed("main", "refused")
    stage = Stage([main, backup])
    stage.submit()
    stage.deliver()
    assert [type(event) for event in stage.events] == [RelayPaused, DeliveryTried]
    assert stage.states() == [State.SENT]
    assert len(backup.sent) == 1
    (record,) = stage.ledger.find(Selector())
    assert (record.attempts, record.relay) == (1, "backup")


def test_a_mail_bound_to_a_relay_waits_for_it() -> None:
    main, backup = MemoryTransport("main"), MemoryTransport("backup")
    stage = Stage([main, backup])
    stage.ledger.pause("relay", "main", None, "by hand", Actor("anna", "desk"))
    stage.submit(relay="main")
    assert stage.deliver() == 0
    assert stage.states() == [State.QUEUED]


def test_a_quota_stops_the_batch_bounces_nothing_and_spends_no_attempt() -> None:
    quota = Reply(550, "daily quota", "5.4.5", Phase.MAIL)
    transport = MemoryTransport("main", {"bob@example.com": quota})
    stage = Stage([transport])
    for to in ("ada@example.com", "bob@example.com", "eve@example.com"):
        stage.submit(to=[to])
    stage.deliver()
    assert stage.states().count(State.QUEUED) == 2
    assert len(transport.sent) == 1
    assert {d.attempts for d in stage.ledger.find(Selector(states=(State.QUEUED,)))} == {0}


@pytest.mark.parametrize(("policy", "state"), [("hold", State.IN_DOUBT), ("resend", State.QUEUED)])
def test_silence_after_the_dot_follows_the_submissions_policy(policy: str, state: State) -> None:
    transport = MemoryTransport("main", {"ada@example.com": [NoReply(Phase.FINAL, "timed out")]})
    stage = Stage([transport])
    stage.submit(if_in_doubt=policy)
    stage.deliver()
    assert stage.states() == [state]


def test_a_mail_that_cannot_be_rendered_is_invalid_with_its_reason_and_stops_nobody() -> None:
    stage = Stage()
    stage.submit(template="half", data={"name": "Ada", "half": 0}, subject=None, text=None)
    stage.submit()
    stage.deliver()
    assert sorted(stage.states()) == [State.INVALID, State.SENT]
    (invalid,) = stage.ledger.find(Selector(states=(State.INVALID,)))
    assert "half/body.txt:1" in invalid.text


def test_a_message_keeps_the_template_version_of_its_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.submit(template="t", data={"name": "Ada", "half": 1}, subject=None, text=None)
    monkeypatch.setitem(FILES, "subject.txt", "Bye {{ name }}")
    stage.submit(template="t", data={"name": "Bob", "half": 1}, subject=None, text=None)
    stage.deliver()
    assert [b"Subject: Hi Ada" in m.content or b"Subject: Bye Bob" in m.content for m in stage.transport.sent] == [
        True
    ] * 2


def test_what_comes_through_a_door_without_an_answer_is_accepted_once_or_kept_as_rejected() -> None:
    stage = Stage()
    taken = stage.dispatcher.take_in(MAIL, door="task", reference="7")
    assert stage.dispatcher.take_in(MAIL, door="task", reference="7") == taken
    assert stage.dispatcher.take_in({**MAIL, "to": []}, door="task", reference="8", producer="erp") == "rejected"
    (kept,) = stage.ledger.rejects()
    assert (kept.door, kept.reference, kept.producer, kept.field) == ("task", "8", "erp", "to")
    assert '"subject": "Hi"' in kept.payload
    assert stage.ledger.totals().accepted == 1


def test_the_sweep_is_done_by_one_of_many() -> None:
    stage = Stage()
    list(stage.dispatcher.submit_many([MAIL]))
    stage.bells.rung.clear()
    assert [stage.dispatcher.sweep() for _ in range(3)] == [1, 0, 0]


def test_a_broken_template_is_the_error_of_its_own_submissions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    monkeypatch.setitem(FILES, "body.txt", "{% if %}")
    broken = {"template": "t", "to": ["a@example.com"], "data": {"name": "Ada"}}
    first, second = stage.dispatcher.submit_many([broken, MAIL])
    assert isinstance(first, SubmissionError)
    assert first.field == "template"
    assert "t/body.txt:1" in first.reason
    assert isinstance(second, Receipt)
