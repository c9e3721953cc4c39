"""What people do with campaigns, and what workers make of it: on fakes, with a hand on the clock."""

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from typing import Any

import pytest

from dispatcher import advance
from dispatcher.campaign import CampaignSpec, CampaignState
from dispatcher.delivery import Lane, Selector, State
from dispatcher.errors import AudienceError, DispatcherError, SubmissionError
from dispatcher.events import CampaignEnded
from dispatcher.reply import Phase, Reply
from dispatcher.suppression import Reason, Suppression
from dispatcher.testing import MemoryTransport
from dispatcher.zones import moment
from tests.campaigns import FILES, META, SPEC, Show
from tests.stage import ANNA

P2, P3 = "P2@example.com", "P3@example.com"


# -- what is wrong is said before anything is kept


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"audience": "nobody"}, "no audience 'nobody'"),
        ({"list": "two words"}, "list: "),
        ({"where": ("town=Rome",)}, "filter 'town=Rome': there is no attribute town"),
        ({"where": ("age=old",)}, "filter 'age=old': age is a number"),
        ({"start": "tomorrow"}, "start: 'tomorrow' is no ISO 8601 time"),
        ({"zone": "Mars/Phobos"}, "zone: 'Mars/Phobos' is no time zone"),
        ({"zone": "Mars/Phobos", "start": "2030-01-01T09:00"}, "zone: 'Mars/Phobos' is no time zone"),
        ({"start": "0001-01-01T09:00"}, "start: '0001-01-01T09:00' is out of range"),
        ({"hours": "9 to 5"}, "hours: '9 to 5' are no hours"),
        ({"rate": ("fast",)}, "rate: 'fast' is no rate"),
        ({"under": "a b"}, "under: 'a b' cannot be the name of a variable"),
        ({"relay": "none"}, "relay: 'none' is not configured"),
        ({"from_": "nobody"}, "from: 'nobody' is not an email address"),
        ({"owner": "nobody"}, "owner: 'nobody' is not an email address"),
        ({"headers": {"X-A": "b\r\nBcc: c"}}, "headers.X-A: "),
        ({"locale": "not a tag"}, "locale: "),
        ({"data": {"title": object()}}, "data: cannot be written as JSON"),
    ],
)
def test_a_setting_that_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    show = Show()
    with pytest.raises(DispatcherError) as caught:
        show.draft(replace(SPEC, **changes))
    assert str(caught.value).startswith(said)
    assert show.dispatcher.campaigns.listed() == []


def test_a_template_with_sensitive_data_is_not_for_campaigns() -> None:
    show = Show()
    show.files = {**FILES, "meta.toml": META + '[schema.properties.link]\nx-sensitive = true\ntype = "string"\n'}
    with pytest.raises(SubmissionError, match="template: newsletter takes data that is x-sensitive"):
        show.draft()


@pytest.mark.parametrize("name", ["", " x", "a/b", "x" * 101, "a\nb"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(SubmissionError, match="cannot be one"):
        Show().dispatcher.campaigns.create(name, SPEC, ANNA)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "template: required"),
        ({"template": "t", "audience": "a", "list": "l", "colour": 1}, "colour: unknown field"),
        ({"template": "t", "audience": "a", "list": "l", "rate": "5/s"}, "rate: must be a list of texts"),
        ({"template": "t", "audience": "a", "list": "l", "data": []}, "data: must be an object"),
        ({"template": "t", "audience": "a", "list": 7}, "list: must be a text"),
    ],
)
def test_a_document_that_is_no_spec_is_refused(document: dict[str, Any], said: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        CampaignSpec.parse(document)
    assert str(caught.value).startswith(said)


def test_a_spec_is_the_same_after_it_was_kept() -> None:
    spec = replace(SPEC, rate=("5/s", "100/h"), where=("age>=18",), start="2030-01-01T09:00", zone="Asia/Tokyo")
    assert CampaignSpec.parse(spec.document()).document() == spec.document()


# -- starting


def test_it_is_not_started_unchecked_or_with_a_check_that_failed() -> None:
    show = Show({"city": "Rome"})
    show.draft()
    with pytest.raises(SubmissionError, match="spring: it was not checked"):
        show.dispatcher.campaigns.start("spring", ANNA)
    show.dispatcher.campaigns.check("spring", ANNA)
    with pytest.raises(SubmissionError, match="spring: its check has failed"):
        show.dispatcher.campaigns.start("spring", ANNA)
    assert show.ledger.totals().accepted == 0


def test_everybody_gets_one_mail_of_their_own() -> None:
    show = Show({"name": "Ann"}, {"name": "李雷", "locale": "zh-CN"})
    assert show.started().state is CampaignState.RUNNING
    assert show.bells.expansions == 1
    assert not show.advance()
    assert show.send() == [P2, P3]
    mails = [message_from_bytes(sent.content) for sent in show.transport.sent]
    assert mails[0]["Subject"] == "Spring for Ann"
    assert mails[0]["To"] == P2
    assert "https://mail.example/unsubscribe/" in mails[0]["List-Unsubscribe"]
    assert mails[1].get_payload()[0].get_payload(decode=True).decode().startswith("李雷")  # type: ignore[union-attr, index]
    assert len({mail["List-Unsubscribe"] for mail in mails}) == 2
    assert show.mails() == {P2: State.SENT, P3: State.SENT}


def test_attributes_may_stand_in_an_object() -> None:
    show = Show({"name": "Ann"})
    show.files = {name: text.replace("{{ name }}", "{{ customer.name }}") for name, text in FILES.items()}
    show.files["meta.toml"] = FILES["meta.toml"].replace('"name"', '"customer"')
    show.started(replace(SPEC, under="customer"))
    show.advance()
    show.send()
    assert message_from_bytes(show.transport.sent[0].content)["Subject"] == "Spring for Ann"


def test_an_audience_and_a_template_that_change_meanwhile_change_nothing() -> None:
    show = Show({"name": "Ann"})
    show.checked()
    show.people({"name": "Zoe"}, {"name": "Yan"})
    show.files = {**FILES, "subject.txt": "Other"}
    show.dispatcher.campaigns.start("spring", ANNA)
    show.advance()
    assert show.send() == [P2]
    assert message_from_bytes(show.transport.sent[0].content)["Subject"] == "Spring for Ann"


def test_only_those_who_are_meant_get_it() -> None:
    show = Show({"name": "Ann", "age": 17}, {"name": "Bob", "age": 18}, {"name": "Cem"})
    show.started(replace(SPEC, where=("age>=18",)))
    show.advance()
    assert show.send() == [P3]
    sums = show.dispatcher.campaigns.sums("spring")
    assert (sums.kept, sums.filtered, sums.expanded, sums.faults()) == (3, 2, 1, [])


def test_those_whose_data_does_not_fit_are_accounted_for_as_invalid() -> None:
    show = Show({"name": "Ann"}, {"city": "Rome"})
    show.started(without_invalid=True)
    show.advance()
    assert show.send() == [P2]
    assert show.mails() == {P2: State.SENT, P3: State.INVALID}


def test_whoever_leaves_while_it_goes_gets_it_no_more() -> None:
    show = Show()
    show.started()
    show.advance()
    show.ledger.suppressions.add([Suppression("p2@example.com", "list:news", Reason.UNSUBSCRIBE)])
    assert show.send() == [P3]
    assert show.mails()[P2] is State.SUPPRESSED
    assert show.dispatcher.submit({"to": [P2], "subject": "Order", "text": "Thanks"}).state == "queued"


def test_it_goes_on_where_it_was_after_a_piece() -> None:
    show = Show(*({"name": f"N{n}"} for n in range(2500)))
    show.started()
    asked = iter([False, False, True])
    assert show.dispatcher.advance(10.0, again=True, stopping=lambda: next(asked, True))
    assert (show.campaign.cursor, show.campaign.expanded, show.campaign.complete) == (1001, 1000, False)
    assert not show.advance()
    assert (show.campaign.expanded, show.campaign.complete) == (2500, True)
    assert len(show.mails()) == 2500


def test_nobody_moves_it_on_twice_within_a_moment() -> None:
    show = Show()
    show.started()
    assert not show.dispatcher.advance(10.0)
    assert show.campaign.complete
    show.dispatcher.campaigns.act("spring", "pause", ANNA)
    assert show.ledger.tick("expand", 2.0) is False


def test_one_that_cannot_be_gone_by_here_pauses_with_the_reason_and_the_others_go_on() -> None:
    show = Show({"name": "Ann"})
    show.started()
    show.dispatcher.campaigns.create("summer", SPEC, ANNA)
    show.dispatcher.campaigns.check("summer", ANNA)
    show.dispatcher.campaigns.start("summer", ANNA)
    broken = replace(
        show.campaign, spec=replace(SPEC, zone="Mars/Phobos", hours="mon-fri 09:00-18:00")
    )  # kept by a machine that knows that one
    show.ledger.campaigns._rows["spring"] = broken
    assert not show.advance()
    assert show.campaign.state is CampaignState.PAUSED
    assert "'Mars/Phobos' is no time zone" in show.campaign.reason
    assert show.dispatcher.campaigns.get("summer").complete


# -- times


def test_it_starts_by_everybodys_own_clock() -> None:
    show = Show({"name": "A", "zone": "Asia/Shanghai"}, {"name": "B", "zone": "America/New_York"}, {"name": "C"})
    start = datetime(2027, 3, 14, 9, 0)  # noqa: DTZ001 - a wall clock's; New York has changed its clocks that night
    assert show.clock.now < moment(start, "UTC")
    spec = replace(SPEC, start=start.isoformat(), zone="Europe/Berlin", data={"title": "(AD) Spring"})
    assert show.started(spec).state is CampaignState.SCHEDULED
    show.clock.now = moment(start, "Pacific/Kiritimati")
    show.advance()
    assert show.campaign.state is CampaignState.RUNNING
    due = {record.rcpt: record.due_at for record in show.ledger.find(Selector(lane=Lane.BULK))}
    shown = [datetime.fromtimestamp(due[f"P{n}@example.com"], UTC).isoformat() for n in (2, 3, 4)]
    assert shown == ["2027-03-14T01:00:00+00:00", "2027-03-14T13:00:00+00:00", "2027-03-14T08:00:00+00:00"]
    show.clock.now = due[P2]
    assert show.send() == [P2]
    assert message_from_bytes(show.transport.sent[0].content)["Date"] == "Sun, 14 Mar 2027 01:00:00 +0000"
    show.clock.now = due[P3] - 1
    assert show.send() == ["P4@example.com"]
    show.clock.now += 1
    assert show.send() == [P3]


def test_mail_goes_in_its_hours_only_even_when_it_was_held_up() -> None:
    show = Show({"name": "A", "zone": "Asia/Shanghai"}, {"name": "B"})
    show.clock.now = moment(datetime(2027, 1, 18, 23, 0), "UTC")  # noqa: DTZ001 - 07:00 in Shanghai, a Tuesday
    show.started(replace(SPEC, hours="mon-fri 09:00-18:00", zone="UTC", data={"title": "(AD) Spring"}))
    show.advance()
    assert show.send() == []
    show.dispatcher.campaigns.act("spring", "pause", ANNA)
    show.clock.now += 12 * 3600  # 19:00 in Shanghai, 11:00 in London
    show.dispatcher.campaigns.act("spring", "resume", ANNA)
    assert show.send() == [P3]
    (held,) = show.ledger.find(Selector(to=P2))
    assert (held.state, held.attempts, held.text) == (State.QUEUED, 0, "outside its send hours")
    assert held.due_at == moment(datetime(2027, 1, 20, 9, 0), "Asia/Shanghai")  # noqa: DTZ001 - as above
    show.clock.now = held.due_at
    assert show.send() == [P2]


def test_a_rate_of_its_own_spreads_it_and_holds_up_nobody_else() -> None:
    show = Show(*({"name": f"N{n}"} for n in range(60)))
    show.started(replace(SPEC, rate=("600/min",)))
    show.advance()
    dues = sorted(record.due_at for record in show.ledger.find(Selector(lane=Lane.BULK)))
    assert dues[-1] - dues[0] == pytest.approx(5.9)
    show.clock.now += 3600  # all are due by now
    show.dispatcher.campaigns.act("spring", "pause", ANNA)
    show.dispatcher.campaigns.act("spring", "resume", ANNA)
    show.submit(lane="bulk", to=["other@example.com"])
    went = show.send()
    assert "other@example.com" in went
    assert len(went) == 61


def test_what_is_over_the_rate_comes_again_when_there_is_room_and_costs_no_attempt() -> None:
    show = Show(*({"name": f"N{n}"} for n in range(50)))
    show.started(replace(SPEC, rate=("20/h",)))
    show.advance()
    show.clock.now += 10 * 3600  # it was held up, and all are due
    assert len(show.send()) == 20
    waiting = list(show.ledger.find(Selector(states=(State.QUEUED,))))
    assert len(waiting) == 30
    assert {record.text for record in waiting} == {"its campaign's rate: 20/h"}
    assert {record.attempts for record in waiting} == {0}
    (again,) = {record.due_at for record in waiting}
    assert 3600 <= again - show.clock.now < 3700
    show.clock.now = again + 1
    assert len(show.send()) == 20


def test_a_rate_of_a_second_is_used_up_at_once() -> None:
    show = Show(*({"name": f"N{n}"} for n in range(50)))
    show.started(replace(SPEC, rate=("20/s",)))
    show.advance()
    show.clock.now += 60
    assert len(show.send()) == 20


def test_while_its_rate_is_used_up_it_is_not_even_leased() -> None:
    show = Show(*({"name": f"N{n}"} for n in range(50)), batch_size=10)
    show.started(replace(SPEC, rate=("20/h",)))
    show.advance()
    show.clock.now += 10 * 3600
    show.submit(lane="bulk", to=["other@example.com"])
    assert len(show.send()) == 21
    untouched = [row for row in show.ledger.find(Selector(states=(State.QUEUED,))) if not row.text]
    assert len(untouched) == 20


def test_a_small_one_is_not_expanded_behind_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "CHUNK", 2)
    show = Show(*({"name": f"N{n}"} for n in range(9)))
    show.started()
    campaigns = show.dispatcher.campaigns
    campaigns.create("small", SPEC, ANNA)
    campaigns.check("small", ANNA)
    campaigns.start("small", ANNA)
    asked = iter([False] * 4)  # for each of the two, and for a turn each
    assert show.dispatcher.advance(10.0, again=True, stopping=lambda: next(asked, True))
    assert [campaigns.get(name).expanded for name in ("spring", "small")] == [4, 4]
    assert not show.advance()
    assert [campaigns.get(name).expanded for name in ("spring", "small")] == [9, 9]


# -- pausing, cancelling, trying again


def test_pause_resume_and_cancel() -> None:
    show = Show()
    show.started()
    show.advance()
    show.dispatcher.campaigns.act("spring", "pause", ANNA)
    assert show.send() == []
    show.dispatcher.campaigns.act("spring", "resume", ANNA)
    show.ledger.pause("lane", "bulk", None, "x", ANNA)
    assert show.dispatcher.campaigns.act("spring", "cancel", ANNA).state is CampaignState.CANCELLED
    assert set(show.mails().values()) == {State.CANCELLED}
    show.advance()
    assert (show.campaign.finished_at is not None, show.campaign.sums) == (True, {"cancelled": 2})


def test_a_cancelling_that_was_cut_short_is_ended_by_workers() -> None:
    show = Show()
    show.started()
    show.advance()
    show.ledger.campaigns.act("spring", "cancel", ANNA)  # and no more
    assert set(show.mails().values()) == {State.QUEUED}
    show.advance()
    assert set(show.mails().values()) == {State.CANCELLED}
    show.advance()
    assert show.campaign.sums == {"cancelled": 2}


def test_a_draft_may_be_cancelled() -> None:
    show = Show()
    show.draft()
    assert show.dispatcher.campaigns.act("spring", "cancel", ANNA).state is CampaignState.CANCELLED
    assert not show.ledger.campaigns.pending()


def test_only_what_may_still_arrive_is_tried_again() -> None:
    refused = {P2: Reply(550, "no", "5.7.1", Phase.FINAL), P3: [Reply(451, "later", "4.7.1", Phase.FINAL)]}
    show = Show({"name": "A"}, {"name": "B"}, {"name": "C"}, transports=[MemoryTransport("main", refused)])
    show.started()
    show.advance()
    assert show.send() == ["P4@example.com"]
    assert show.mails() == {P2: State.BOUNCED, P3: State.DEFERRED, "P4@example.com": State.SENT}
    states = [State.DEFERRED, State.INVALID, State.EXPIRED]
    assert show.dispatcher.campaigns.retry("spring", states, ANNA) == 1
    assert show.send() == [P3]
    with pytest.raises(SubmissionError, match="only: sent is not tried again"):
        show.dispatcher.campaigns.retry("spring", [State.SENT], ANNA)


# -- the end


def test_its_owner_is_told_once_with_those_who_did_not_get_it() -> None:
    refused = {P3: Reply(550, "=cmd", "5.7.1", Phase.FINAL)}
    show = Show(transports=[MemoryTransport("main", refused)])
    show.started(replace(SPEC, owner="boss@example.com"))
    show.advance()
    show.send()
    show.files = {
        "meta.toml": 'description = "x"',
        "subject.txt": "{{ campaign }} {{ outcome }}",
        "body.txt": "{% for each in states %}{{ each.state }}={{ each.count }} {% endfor %}",
    }
    for _ in range(3):
        show.advance()
    assert show.campaign.state is CampaignState.FINISHED
    assert show.campaign.sums == {"sent": 1, "bounced": 1}
    assert show.deliver() == 1
    (mail,) = [message_from_bytes(sent.content) for sent in show.transport.sent[1:]]
    assert (mail["To"], mail["Subject"]) == ("boss@example.com", "spring finished")
    text, attached = mail.get_payload()
    assert text.get_payload(decode=True).decode().strip() == "sent=1 bounced=1"  # type: ignore[union-attr]
    rows = attached.get_payload(decode=True).decode("utf-8-sig").splitlines()  # type: ignore[union-attr]
    assert rows[1].startswith(
        "3,P3@example.com,bounced,1,550,5.7.1,'=cmd,main,"
    )  # no spreadsheet takes it for a formula
    assert [event for event in show.events if isinstance(event, CampaignEnded)] == [
        CampaignEnded("spring", "finished", {"sent": 1, "bounced": 1})
    ]


def test_a_report_that_cannot_be_sent_is_said_and_not_tried_for_ever() -> None:
    show = Show({"name": "Ann"})
    show.started(replace(SPEC, owner="boss@example.com"))
    show.advance()
    show.send()
    show.advance()  # the template newsletter stands for the report's, whose data does not fit
    (ended,) = [event for event in show.events if isinstance(event, CampaignEnded)]
    assert ended.fault == "data.title: is missing; so is name"
    assert show.campaign.reported_at is not None


def test_a_trial_goes_to_a_few_addresses_with_the_data_of_the_first_people() -> None:
    show = Show()
    show.draft()
    receipts = show.dispatcher.campaigns.test("spring", ["me@example.com"], rows=2)
    assert len(receipts) == 2
    show.deliver()
    subjects = [message_from_bytes(sent.content)["Subject"] for sent in show.transport.sent]
    assert sorted(subjects) == ["Spring for Ann", "Spring for Bob"]
    assert show.campaign.state is CampaignState.DRAFT
    show.dispatcher.campaigns.revise("spring", replace(SPEC, where=("age>=18",)), ANNA)
    with pytest.raises(SubmissionError, match="nobody in people is meant"):
        show.dispatcher.campaigns.test("spring", ["me@example.com"])


def test_a_filter_is_checked_against_the_audience_as_it_is_now() -> None:
    show = Show()
    show.draft(replace(SPEC, where=("age>=18",)))
    version = show.ledger.audiences.begin("people", "x", show.ledger.audiences.current("people").columns[:2], ANNA)
    show.ledger.audiences.ready(version.id, ANNA)
    with pytest.raises(AudienceError, match="there is no attribute age"):
        show.dispatcher.campaigns.check("spring", ANNA)
