"""What every ledger promises of campaigns: nobody is skipped or doubled, and the sums balance."""

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dispatcher.audience import BadRow, Column, Kind, Member
from dispatcher.campaign import Campaign, CampaignSpec, CampaignState, Expanded
from dispatcher.delivery import LIVE, Actor, Lane, Selector, State
from dispatcher.errors import AudienceError, NotFound, SubmissionError
from dispatcher.mail import Accepted
from dispatcher.retention import Retention
from dispatcher.suppression import MARKETING, Reason, Suppression
from tests.ledgers import ANNA, DAY, Kept, accepted, lease, settle, settlement

BOB = Actor("bob", "desk-8")
SPEC = CampaignSpec("newsletter", "people", "news", data={"title": "Hello"})
CHECKED = {"ok": True, "template": "0" * 64}
COLUMNS = Column("email", Kind.ADDRESS, "Mail"), Column("name", Kind.TEXT, "Name")


def audience(kept: Kept, people: int = 3, bad: int = 0) -> int:
    """An audience with so many rows that can be written to, and so many that cannot; the version's number."""
    version = kept.ledger.audiences.begin("people", "people.csv", COLUMNS, ANNA)
    members = [Member(n, f"p{n}@example.com", f"P{n}@example.com", {"name": f"P{n}"}) for n in range(2, people + 2)]
    rejects = [BadRow(people + 2 + n, "email", "is empty", "") for n in range(bad)]
    kept.ledger.audiences.add(version.id, members, rejects)
    return kept.ledger.audiences.ready(version.id, ANNA).id


def started(kept: Kept, people: int = 3, bad: int = 0, start_at: float | None = None) -> Campaign:
    """A campaign that was started."""
    campaigns = kept.ledger.campaigns
    version = audience(kept, people, bad)
    made = campaigns.check(campaigns.create("spring", SPEC, ANNA), version, CHECKED, ANNA)
    return campaigns.start(made, submission(), start_at, ANNA)


def submission(**fields: Any) -> Accepted:
    """What its recipients share; they come later."""
    usual = {"lane": "bulk", "list": "news", "shared": {"from": "shop@example.com"}, "fingerprints": {}}
    return replace(accepted(**{**usual, **fields}), messages=())


def rows(*numbers: int, due_at: float, fault: str = "") -> list[Expanded]:
    return [
        Expanded(n, f"P{n}@example.com", f"p{n}@example.com", json.dumps({"to": [f"P{n}@example.com"]}), due_at, fault)
        for n in numbers
    ]


def expand(kept: Kept, found: Campaign, *numbers: int, complete: bool = False, **fields: Any) -> bool:
    """Make these rows of its audience messages."""
    made: Sequence[Expanded] = rows(*numbers, **{"due_at": found.created_at, **fields})
    upto = max(numbers, default=found.cursor)
    return kept.ledger.campaigns.expand(found, upto, made, filtered=0, complete=complete)


def now(kept: Kept) -> Campaign:
    return kept.ledger.campaigns.get("spring")


def mails(kept: Kept) -> dict[str, State]:
    """What became of whom."""
    found = now(kept).submission
    return {record.rcpt: record.state for record in kept.ledger.find(Selector(ids=(found or "",)))}


# -- making and starting


def test_the_submission_of_one_that_was_not_expanded_yet_is_not_found(kept: Kept) -> None:
    name = started(kept).submission or ""
    with pytest.raises(NotFound, match=name):
        kept.ledger.submission(name)


def test_a_draft_is_kept_as_it_was_asked_for(kept: Kept) -> None:
    made = kept.ledger.campaigns.create("spring", SPEC, ANNA)
    assert (made.state, made.spec.document(), made.actor) == (CampaignState.DRAFT, SPEC.document(), "anna@desk-7")
    assert kept.ledger.campaigns.get("spring") == made
    assert kept.ledger.campaigns.listed() == [made]
    assert kept.ledger.campaigns.listed(CampaignState.RUNNING) == []


def test_a_name_that_is_taken_is_refused(kept: Kept) -> None:
    kept.ledger.campaigns.create("spring", SPEC, ANNA)
    with pytest.raises(SubmissionError, match="there is a campaign 'spring' already"):
        kept.ledger.campaigns.create("spring", SPEC, BOB)


def test_a_name_that_is_nobodys_is_said_with_the_one_that_may_be_meant(kept: Kept) -> None:
    kept.ledger.campaigns.create("spring", SPEC, ANNA)
    with pytest.raises(NotFound, match="did you mean spring"):
        kept.ledger.campaigns.get("sprng")


def test_a_check_that_fails_leaves_a_draft_and_says_what_it_found(kept: Kept) -> None:
    version, campaigns = audience(kept), kept.ledger.campaigns
    found = campaigns.check(campaigns.create("spring", SPEC, ANNA), version, {"ok": False, "why": "x"}, ANNA)
    assert (found.state, found.checked, found.version) == (CampaignState.DRAFT, {"ok": False, "why": "x"}, version)
    with pytest.raises(SubmissionError, match="is draft"):
        campaigns.start(found, submission(), None, ANNA)


def test_what_was_changed_while_it_was_checked_is_not_checked(kept: Kept) -> None:
    version, campaigns = audience(kept), kept.ledger.campaigns
    seen = campaigns.create("spring", SPEC, ANNA)
    campaigns.revise("spring", CampaignSpec("newsletter", "people", "other"), BOB)
    with pytest.raises(SubmissionError, match="was changed while it was checked"):
        campaigns.check(seen, version, CHECKED, ANNA)


def test_what_was_changed_while_it_was_started_is_not_started(kept: Kept) -> None:
    version, campaigns = audience(kept), kept.ledger.campaigns
    seen = campaigns.check(campaigns.create("spring", SPEC, ANNA), version, CHECKED, ANNA)
    campaigns.check(campaigns.revise("spring", replace(SPEC, list="other"), BOB), version, CHECKED, BOB)
    with pytest.raises(SubmissionError, match="was changed while it was started"):
        campaigns.start(seen, submission(), None, ANNA)
    assert kept.ledger.totals().accepted == 0
    assert now(kept).submission is None


def test_an_audience_that_is_dropped_while_it_is_checked_is_missed(kept: Kept) -> None:
    version, campaigns = audience(kept), kept.ledger.campaigns
    seen = campaigns.create("spring", SPEC, ANNA)
    kept.ledger.audiences.drop("people", None, ANNA)
    with pytest.raises(SubmissionError, match="its audience was dropped while it was checked"):
        campaigns.check(seen, version, CHECKED, ANNA)
    assert now(kept).version is None


def test_a_change_after_the_check_needs_another_check(kept: Kept) -> None:
    version, campaigns = audience(kept), kept.ledger.campaigns
    campaigns.check(campaigns.create("spring", SPEC, ANNA), version, CHECKED, ANNA)
    assert campaigns.revise("spring", SPEC, BOB).state is CampaignState.DRAFT
    assert (now(kept).checked, now(kept).version) == (None, None)


def test_of_two_who_start_it_the_second_is_told_who_was_first(kept: Kept) -> None:
    found = started(kept)
    with pytest.raises(SubmissionError, match="spring: is running, since it was changed by anna@desk-7"):
        kept.ledger.campaigns.start(found, submission(), None, BOB)


def test_of_many_who_start_it_at_once_one_does(kept: Kept) -> None:
    version, campaigns = audience(kept), kept.ledger.campaigns
    checked = campaigns.check(campaigns.create("spring", SPEC, ANNA), version, CHECKED, ANNA)
    refused = []

    def start() -> None:
        try:
            campaigns.start(checked, submission(), None, BOB)
        except SubmissionError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 5
    assert kept.ledger.totals().accepted == 0
    assert [act.act for act in kept.ledger.acts() if act.subject == "campaign spring"] == ["start"]


def test_one_for_later_runs_when_its_time_has_come(kept: Kept) -> None:
    at = kept.ledger.campaigns.create("clock", SPEC, ANNA).created_at + 3600
    assert started(kept, start_at=at).state is CampaignState.SCHEDULED
    assert (kept.ledger.campaigns.begin_due(), kept.ledger.campaigns.pending()) == (0, False)
    assert not expand(kept, now(kept), 2)
    kept.age(3601)
    assert kept.ledger.campaigns.pending()
    assert kept.ledger.campaigns.begin_due() == 1
    assert now(kept).state is CampaignState.RUNNING
    assert now(kept).started_at is not None


# -- expanding


def test_rows_become_mails_of_one_submission_numbered_as_the_rows(kept: Kept) -> None:
    found = started(kept)
    assert expand(kept, found, 2, 3)
    assert expand(kept, now(kept), 4, complete=True)
    assert (now(kept).cursor, now(kept).expanded, now(kept).complete) == (4, 3, True)
    records = list(kept.ledger.find(Selector(ids=(found.submission or "",))))
    assert [record.message_id.split("-")[1] for record in records] == ["4", "3", "2"]
    assert mails(kept) == dict.fromkeys(("P2@example.com", "P3@example.com", "P4@example.com"), State.QUEUED)
    sums = kept.ledger.campaigns.sums(found)
    assert (sums.faults(), sums.waiting, sums.accepted) == ([], 0, 3)
    assert [each.own["to"] for each in lease(kept.ledger, Lane.BULK).messages][:1] == [["P2@example.com"]]


def test_whoever_saw_an_older_cursor_adds_nothing(kept: Kept) -> None:
    found = started(kept)
    assert expand(kept, found, 2, 3)
    assert not expand(kept, found, 2, 3)
    assert not expand(kept, found, 2, 3, 4, complete=True)
    assert len(mails(kept)) == 2
    assert kept.ledger.totals().accepted == 2


def test_of_many_who_expand_the_same_rows_one_does(kept: Kept) -> None:
    found, done = started(kept, people=40), []
    threads = [threading.Thread(target=lambda: done.append(expand(kept, found, *range(2, 42)))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == [False, False, False, False, True]
    assert len(mails(kept)) == 40


def test_what_is_complete_is_not_expanded_any_more(kept: Kept) -> None:
    assert expand(kept, started(kept), 2, 3, 4, complete=True)
    assert not expand(kept, now(kept), 5)


def test_rows_that_are_not_meant_are_counted(kept: Kept) -> None:
    found = started(kept)
    assert kept.ledger.campaigns.expand(found, 4, rows(3, due_at=found.created_at), filtered=2, complete=True)
    sums = kept.ledger.campaigns.sums(found)
    assert (sums.filtered, sums.expanded, sums.waiting, sums.faults()) == (2, 1, 0, [])


def test_a_row_that_cannot_be_rendered_is_invalid_with_its_reason(kept: Kept) -> None:
    expand(kept, started(kept), 2, fault="data.name: required")
    (record,) = kept.ledger.find(Selector(ids=(now(kept).submission or "",)))
    assert (record.state, record.text, record.attempts) == (State.INVALID, "data.name: required", 0)
    assert lease(kept.ledger, Lane.BULK).messages == ()


def test_whoever_left_the_list_is_suppressed_and_keeps_order_confirmations(kept: Kept) -> None:
    left = [
        Suppression("p2@example.com", "list:news", Reason.UNSUBSCRIBE),
        Suppression("p3@example.com", MARKETING, Reason.HAND),
        Suppression("p4@example.com", "list:other", Reason.UNSUBSCRIBE),
    ]
    kept.ledger.suppressions.add(left)
    expand(kept, started(kept), 2, 3, 4, complete=True)
    assert mails(kept) == {
        "P2@example.com": State.SUPPRESSED,
        "P3@example.com": State.SUPPRESSED,
        "P4@example.com": State.QUEUED,
    }
    assert [each.deliveries[0].rcpt for each in lease(kept.ledger, Lane.BULK).messages] == ["P4@example.com"]
    assert kept.ledger.campaigns.sums(now(kept)).faults() == []


def test_a_mail_for_later_is_dated_for_then_and_waits(kept: Kept) -> None:
    found = started(kept)
    own = json.dumps({"to": ["P2@example.com"], "dated": found.created_at + 3600})
    later = Expanded(2, "P2@example.com", "p2@example.com", own, found.created_at + 3600)
    assert kept.ledger.campaigns.expand(found, 2, [later], filtered=0, complete=False)
    assert lease(kept.ledger, Lane.BULK).messages == ()
    kept.age(3601)
    (message,) = lease(kept.ledger, Lane.BULK).messages
    assert message.dated == pytest.approx(found.created_at + 3600)


# -- pausing, resuming, cancelling


def test_a_pause_stops_mails_and_expansion_at_once_and_is_one_row(kept: Kept) -> None:
    expand(kept, started(kept), 2)
    paused = kept.ledger.campaigns.act("spring", "pause", Actor("bob", "desk-8", "wrong price"))
    assert (paused.state, paused.reason, paused.actor) == (CampaignState.PAUSED, "wrong price", "bob@desk-8")
    assert not expand(kept, now(kept), 3)
    assert lease(kept.ledger, Lane.BULK).messages == ()
    assert [(pause.kind, pause.name) for pause in kept.ledger.pauses()] == [("submission", paused.submission)]
    assert kept.ledger.campaigns.act("spring", "resume", ANNA).state is CampaignState.RUNNING
    assert expand(kept, now(kept), 3)
    assert len(lease(kept.ledger, Lane.BULK).messages) == 2
    acts = [(act.act, act.subject, act.reason) for act in kept.ledger.acts() if act.subject == "campaign spring"]
    assert [act for act, *_ in acts] == ["resume", "pause", "start"]
    assert acts[1] == ("pause", "campaign spring", "wrong price")


def test_its_mails_are_not_leased_where_it_is_avoided(kept: Kept) -> None:
    found = started(kept)
    expand(kept, found, 2, 3)
    avoid = {f"campaign/{found.submission}"}
    assert (lease(kept.ledger, Lane.BULK, avoid=avoid).messages, kept.ledger.due(Lane.BULK, 9, avoid)) == ((), 0)
    assert len(lease(kept.ledger, Lane.BULK, avoid={"campaign/another"}).messages) == 2


def test_one_for_later_that_was_paused_is_scheduled_again(kept: Kept) -> None:
    at = kept.ledger.campaigns.create("clock", SPEC, ANNA).created_at + 3600
    started(kept, start_at=at)
    assert kept.ledger.campaigns.act("spring", "pause", ANNA).state is CampaignState.PAUSED
    kept.age(3601)
    assert kept.ledger.campaigns.begin_due() == 0
    assert kept.ledger.campaigns.act("spring", "resume", ANNA).state is CampaignState.SCHEDULED
    assert kept.ledger.campaigns.begin_due() == 1


@pytest.mark.parametrize(("verb", "state"), [("resume", "running"), ("retry", "draft"), ("pause", "draft")])
def test_what_cannot_be_done_now_is_said(kept: Kept, verb: str, state: str) -> None:
    if state == "running":
        started(kept)
    else:
        kept.ledger.campaigns.create("spring", SPEC, ANNA)
    with pytest.raises(SubmissionError, match=f"spring: is {state}"):
        kept.ledger.campaigns.act("spring", verb, ANNA)


def test_a_cancelled_one_is_neither_expanded_nor_resumed(kept: Kept) -> None:
    expand(kept, started(kept), 2)
    assert kept.ledger.campaigns.act("spring", "cancel", ANNA).state is CampaignState.CANCELLED
    assert not expand(kept, now(kept), 3)
    assert lease(kept.ledger, Lane.BULK).messages == ()
    with pytest.raises(SubmissionError, match="is cancelled"):
        kept.ledger.campaigns.act("spring", "resume", ANNA)
    assert kept.ledger.campaigns.pending()
    assert not kept.ledger.campaigns.finish(now(kept))  # what waits is to be cancelled first
    kept.ledger.change(Selector(ids=(now(kept).submission or "",)), State.CANCELLED, ANNA)
    assert kept.ledger.campaigns.finish(now(kept))
    assert (now(kept).state, now(kept).sums) == (CampaignState.CANCELLED, {"cancelled": 1})
    assert kept.ledger.pauses() == []


# -- the end


def test_it_is_finished_when_all_rows_were_expanded_and_no_mail_is_live(kept: Kept) -> None:
    campaigns = kept.ledger.campaigns
    expand(kept, started(kept, bad=2), 2, 3)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK))
    assert not campaigns.live(now(kept))
    assert not campaigns.finish(now(kept))  # one is not expanded
    expand(kept, now(kept), 4, complete=True)
    assert campaigns.live(now(kept))
    taken = lease(kept.ledger, Lane.BULK)
    assert campaigns.live(now(kept))
    assert not campaigns.finish(now(kept))
    settle(kept.ledger, taken, State.BOUNCED, code=550, enhanced="5.1.1", text="no such user")
    assert campaigns.pending()
    assert campaigns.finish(now(kept))
    assert (now(kept).state, now(kept).sums) == (CampaignState.FINISHED, {"sent": 2, "bounced": 1})
    assert campaigns.pending()  # its owner is to be told
    campaigns.reported(now(kept))
    assert not campaigns.pending()
    sums = campaigns.sums(now(kept))
    assert (sums.rows, sums.bad, sums.kept, sums.faults()) == (5, 2, 3, [])


def test_what_is_held_in_doubt_keeps_it_from_being_finished(kept: Kept) -> None:
    expand(kept, started(kept, people=1), 2, complete=True)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK), State.IN_DOUBT)
    assert kept.ledger.campaigns.live(now(kept))
    assert not kept.ledger.campaigns.finish(now(kept))


def test_one_that_is_tried_again_runs_until_that_is_settled(kept: Kept) -> None:
    expand(kept, started(kept, people=1), 2, complete=True)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK), State.EXPIRED)
    assert kept.ledger.campaigns.finish(now(kept))
    again = kept.ledger.campaigns.act("spring", "retry", ANNA)
    assert (again.state, again.finished_at, again.sums) == (CampaignState.RUNNING, None, None)
    kept.ledger.change(Selector(ids=(again.submission or "",)), State.QUEUED, ANNA)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK))
    assert kept.ledger.campaigns.finish(now(kept))
    assert now(kept).sums == {"sent": 1}


def test_sums_outlive_the_retention_of_the_mails(kept: Kept) -> None:
    expand(kept, started(kept), 2, 3, 4, complete=True)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK))
    assert kept.ledger.campaigns.finish(now(kept))
    kept.age(2 * DAY)
    while kept.ledger.retire(Retention(DAY), 2).more:
        sums = kept.ledger.campaigns.sums(now(kept))
        assert (sums.states, sums.faults()) == ({State.SENT: 3}, [])
    assert kept.ledger.totals().accepted == 0
    assert kept.ledger.campaigns.sums(now(kept)).states == {State.SENT: 3}


def test_one_whose_retention_has_begun_is_not_tried_again(kept: Kept) -> None:
    expand(kept, started(kept), 2, 3, 4, complete=True)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK), State.EXPIRED)
    assert kept.ledger.campaigns.finish(now(kept))
    kept.age(2 * DAY)
    while kept.ledger.totals().accepted == 3:
        kept.ledger.retire(Retention(DAY), 1)
    with pytest.raises(SubmissionError, match="its retention is over"):
        kept.ledger.campaigns.act("spring", "retry", ANNA)
    assert now(kept).state is CampaignState.FINISHED


def test_a_mail_that_was_held_up_for_longer_than_its_lifetime_is_tried(kept: Kept) -> None:
    expand(kept, started(kept, people=1), 2, complete=True)
    kept.ledger.campaigns.act("spring", "pause", ANNA)
    kept.age(3 * DAY)
    kept.ledger.campaigns.act("spring", "resume", ANNA)
    (message,) = (taken := lease(kept.ledger, Lane.BULK)).messages
    assert message.deliveries[0].expires_at == pytest.approx(taken.taken + DAY)
    settle(kept.ledger, taken, State.DEFERRED, due_in=60.0)
    kept.age(2 * DAY)  # tried once, it is late like any other
    assert lease(kept.ledger, Lane.BULK).messages == ()
    assert set(mails(kept).values()) == {State.EXPIRED}


def test_the_mails_of_a_campaign_that_goes_on_are_kept(kept: Kept) -> None:
    expand(kept, started(kept), 2)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK))
    kept.age(2 * DAY)
    while kept.ledger.retire(Retention(DAY), 100).more:
        pass
    assert kept.ledger.totals().accepted == 1


def test_an_audience_is_kept_while_a_campaign_goes_by_it(kept: Kept) -> None:
    found = started(kept)
    with pytest.raises(AudienceError, match="campaign spring is running and goes by it"):
        kept.ledger.audiences.drop("people", None, ANNA)
    expand(kept, found, 2, 3, 4, complete=True)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK))
    assert kept.ledger.campaigns.finish(now(kept))
    assert kept.ledger.audiences.drop("people", None, ANNA) == 1
    sums = kept.ledger.campaigns.sums(now(kept))
    assert (sums.kept, sums.faults()) == (3, [])


# -- its own brake


def test_a_relay_that_lets_no_more_through_pauses_it_in_the_same_transaction(kept: Kept) -> None:
    expand(kept, started(kept), 2, 3, complete=True)
    taken = lease(kept.ledger, Lane.BULK, limit=1)
    quota = {"code": 550, "enhanced": "5.4.5", "text": "Daily quota exceeded", "phase": "final", "attempted": False}
    settle(kept.ledger, taken, State.QUEUED, **quota)
    paused = now(kept)
    assert (paused.state, paused.actor) == (CampaignState.PAUSED, "its own brake")
    assert paused.reason == "the relay lets no more through: 550 5.4.5 Daily quota exceeded"
    assert lease(kept.ledger, Lane.BULK).messages == ()
    (pause,) = kept.ledger.pauses()
    assert (pause.kind, pause.until, pause.actor) == ("submission", None, "its own brake")
    kept.ledger.campaigns.act("spring", "resume", ANNA)
    assert settle(kept.ledger, lease(kept.ledger, Lane.BULK)) == 2
    assert now(kept).state is CampaignState.RUNNING


def test_refusals_are_counted_over_many_settles_and_forgotten_when_a_person_resumes(kept: Kept) -> None:
    expand(kept, started(kept, people=60), *range(2, 62), complete=True)
    refused = {"code": 550, "enhanced": "5.7.1", "phase": "final"}
    for n in range(26):
        assert now(kept).state is CampaignState.RUNNING
        taken = lease(kept.ledger, Lane.BULK, limit=1)
        settle(kept.ledger, taken, State.BOUNCED, text=f"policy {'abcdefghijklmnopqrstuvwxyz'[n]}", **refused)
    assert now(kept).reason == "26 of the last 26 replies were refusals"
    assert sum(state in LIVE for state in mails(kept).values()) == 34
    kept.ledger.campaigns.act("spring", "resume", ANNA)
    settle(kept.ledger, lease(kept.ledger, Lane.BULK, limit=1), State.BOUNCED, text="policy", **refused)
    assert now(kept).state is CampaignState.RUNNING


def test_other_bulk_mail_stops_no_campaign(kept: Kept) -> None:
    expand(kept, started(kept), 2)
    kept.ledger.add([accepted("x@example.com", lane="bulk")])
    taken = lease(kept.ledger, Lane.BULK)
    token = taken.token
    mine = [n for n, each in enumerate(taken.messages) if each.submission != now(kept).submission]
    quota = {"code": 550, "enhanced": "5.4.5", "text": "quota", "phase": "final", "attempted": False}
    assert kept.ledger.settle(token, [settlement(taken, State.QUEUED, mine[0], **quota)]) == 1
    assert now(kept).state is CampaignState.RUNNING
