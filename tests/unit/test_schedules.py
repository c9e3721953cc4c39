"""What people do with schedules, and what workers make of them: on fakes, with a hand on the clock."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dispatcher.campaign import CampaignState
from dispatcher.delivery import Selector
from dispatcher.errors import DispatcherError, LedgerUnavailable, NotFound, SubmissionError
from dispatcher.events import OccurrenceFailed
from dispatcher.render import Template
from dispatcher.schedule import Due, OccurrenceState, Schedule, ScheduleSpec
from dispatcher.schedules import HOLD_SECONDS
from tests.campaigns import FILES, META, Show
from tests.stage import ANNA

HOUR, DAY = 3600.0, 86400.0
MAIL = {"to": ["li@example.com"], "subject": "S", "text": "T"}
HOURLY = ScheduleSpec(every="1h", catch_up="all", submission=MAIL)
NEWS = {"template": "newsletter", "audience": "people", "list": "news", "data": {"title": "Spring"}}
WEEKLY = ScheduleSpec(cron="30 8 * * mon", zone="Europe/Berlin", campaign=NEWS)
FIRED, FAILED, SKIPPED, LATE = (OccurrenceState[name] for name in ("FIRED", "FAILED", "SKIPPED", "LATE"))


class Desk(Show):
    """A stage with schedules."""

    @property
    def schedules(self) -> Any:
        return self.dispatcher.schedules

    def add(self, spec: ScheduleSpec = HOURLY, name: str = "report") -> Schedule:
        found: Schedule = self.schedules.add(name, spec, ANNA)
        return found

    def after(self, seconds: float) -> "Desk":
        """Let time pass, and let a worker do what is to be done."""
        self.clock.now += seconds
        self.advance()
        return self

    def states(self, name: str = "report") -> list[OccurrenceState]:  # type: ignore[override]
        """The oldest first."""
        return [each.state for each in reversed(self.schedules.history(name, 100))]

    def outcome(self, name: str = "report") -> str:
        return str(self.schedules.history(name)[0].outcome)

    def keys(self) -> list[str]:
        """Of all submissions."""
        found = {record.submission for record in self.ledger.find(Selector())}
        return sorted(self.ledger.submission(each).key or "" for each in found)


# -- what is wrong is said before anything is kept


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"to": ["nobody"]}, "submission.to[0]: 'nobody' is not an email address"),
        ({"template": "x", "data": {}, "subject": None, "text": None}, "submission.data"),
        ({"idempotency_key": "k"}, "submission.idempotency_key: not in a schedule: each occurrence has one of its own"),
        ({"send_at": "2030-01-01T00:00Z"}, "submission.send_at: not in a schedule: the schedule says when"),
        ({"expires_at": "2030-01-01T00:00Z"}, "submission.expires_at: not in a schedule"),
        ({"attachments": [{"path": "a.pdf"}]}, "submission.attachments[0]: give its content"),
        ({"attachments": [{"content": "!"}]}, "submission.attachments[0]"),
        ({"colour": "red"}, "submission.colour: unknown field"),
    ],
)
def test_a_submission_that_would_be_refused_is_refused_now(changes: dict[str, Any], said: str) -> None:
    desk = Desk()
    with pytest.raises(DispatcherError) as caught:
        desk.add(replace(HOURLY, submission={**MAIL, **changes}))
    assert str(caught.value).startswith(said)
    assert desk.schedules.listed() == []
    assert desk.ledger.totals().accepted == 0


def test_attachments_of_recipients_are_looked_at_too() -> None:
    each = {"to": "li@example.com", "attachments": [{"content": "eA==", "filename": "x"}, {"path": "a.pdf"}]}
    batch = {"recipients": [each], "subject": "S", "text": "T"}
    with pytest.raises(SubmissionError, match=r"submission\.recipients\[0\]\.attachments\[1\]: give its content"):
        Desk().add(replace(HOURLY, submission=batch))


def test_a_template_with_sensitive_data_is_not_for_schedules_which_would_keep_it() -> None:
    desk = Desk()
    desk.files = {**FILES, "meta.toml": META + '[schema.properties.link]\nx-sensitive = true\ntype = "string"\n'}
    mail = {"to": ["li@example.com"], "template": "newsletter", "list": "news", "data": {"title": "T", "name": "Ann"}}
    with pytest.raises(SubmissionError, match=r"submission\.template: newsletter takes data that is x-sensitive"):
        desk.add(replace(HOURLY, submission=mail))
    assert desk.schedules.listed() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"audience": "nobody"}, "no audience 'nobody'"),
        ({"template": None}, "campaign.template: required"),
        ({"start": "2030-01-01T09:00"}, "campaign.start: not in a schedule: the schedule says when"),
        ({"where": ["town=Rome"]}, "filter 'town=Rome': there is no attribute town"),
        ({"hours": "9 to 5"}, "campaign.hours: '9 to 5' are no hours"),
    ],
)
def test_a_campaign_that_could_not_be_made_is_refused_now(changes: dict[str, Any], said: str) -> None:
    desk = Desk()
    with pytest.raises(DispatcherError) as caught:
        desk.add(replace(WEEKLY, campaign={**NEWS, **changes}))
    assert str(caught.value).startswith(said)
    assert desk.schedules.listed() == []


def test_a_schedule_without_a_time_to_come_is_refused() -> None:
    with pytest.raises(SubmissionError, match="end: no time of it is still to come"):
        Desk().add(replace(HOURLY, end="2001-01-01"))


@pytest.mark.parametrize(("name", "spec"), [("", HOURLY), ("a/b", HOURLY), ("x" * 101, HOURLY), ("x" * 90, WEEKLY)])
def test_a_name_that_cannot_be_one_is_refused(name: str, spec: ScheduleSpec) -> None:
    with pytest.raises(SubmissionError, match=r"cannot be one|is longer than"):
        Desk().add(spec, name)


# -- firing


def test_each_occurrence_is_one_submission_under_its_own_key() -> None:
    desk = Desk()
    begin = desk.add().created_at
    desk.after(2 * HOUR + 1)
    assert desk.states() == [FIRED, FIRED]
    days = [datetime.fromtimestamp(begin + n * HOUR, UTC).isoformat() for n in (1, 2)]
    assert desk.keys() == [f"schedule/report/{day}" for day in days]
    (last, _) = desk.ledger.find(Selector())
    assert desk.outcome() == f"submission {last.submission}"
    desk.after(0).after(10)
    assert desk.states() == [FIRED, FIRED]


def test_the_sweep_rings_while_there_is_something_to_fire() -> None:
    desk = Desk()
    desk.add()
    desk.dispatcher.sweep()
    assert desk.bells.expansions == 0
    desk.clock.now += HOUR + 1
    desk.dispatcher.sweep()
    assert desk.bells.expansions == 1
    desk.after(0)
    desk.clock.now += 60
    desk.dispatcher.sweep()
    assert desk.bells.expansions == 1


def test_the_mail_may_say_which_occurrence_it_is() -> None:
    desk = Desk()
    spec = replace(
        HOURLY, submission={**MAIL, "template": "newsletter", "data": {"title": "T", "name": "Ann"}, "list": "n"}
    )
    spec = replace(spec, submission={k: v for k, v in (spec.submission or {}).items() if k not in ("subject", "text")})
    desk.files = {**FILES, "subject.txt": "{{ schedule.name }} of {{ schedule.at }}"}
    desk.add(replace(spec, with_occurrence=True, zone="Asia/Shanghai"))
    desk.after(HOUR + 1).deliver()
    assert b"Subject: report of 2027-01-15T17:00:00+08:00" in desk.transport.sent[0].content


def test_killed_between_submit_and_mark_it_adds_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.add()
    store = desk.ledger.schedules
    with monkeypatch.context() as patch:
        patch.setattr(store, "done", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            desk.after(HOUR + 1)
    assert (desk.states(), len(desk.keys())) == ([OccurrenceState.DUE], 1)
    desk.after(1)
    assert (desk.states(), len(desk.keys())) == ([FIRED], 1)


@pytest.mark.parametrize(("spec", "name", "first"), [(HOURLY, "report", HOUR + 1), (WEEKLY, "news", 3 * DAY)])
def test_what_was_fired_and_not_marked_for_too_long_is_not_called_late(
    spec: ScheduleSpec, name: str, first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    desk.add(spec, name)
    with monkeypatch.context() as patch:
        patch.setattr(desk.ledger.schedules, "done", lambda *_: False)
        desk.after(first)
    outcome = desk.after(2 * DAY).schedules.history(name, 100)[-1]
    assert (outcome.state, outcome.outcome[:9]) == (FIRED, "submissio" if name == "report" else "campaign ")


def test_edited_between_submit_and_mark_it_is_still_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.add()
    with monkeypatch.context() as patch:
        patch.setattr(desk.ledger.schedules, "done", lambda *_: False)
        desk.after(HOUR + 1)
    desk.schedules.edit("report", replace(HOURLY, submission={**MAIL, "subject": "Other"}), ANNA)
    desk.after(1)
    assert (desk.states(), len(desk.keys())) == ([FIRED], 1)


def test_while_the_ledger_is_away_what_is_due_stays_due(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.add()
    with monkeypatch.context() as patch:
        patch.setattr(desk.ledger, "add", lambda _: (_ for _ in ()).throw(LedgerUnavailable("away")))
        with pytest.raises(LedgerUnavailable):
            desk.after(HOUR + 1)
    assert desk.states() == [OccurrenceState.DUE]
    assert desk.after(60).states() == [FIRED]


def test_what_cannot_be_done_has_failed_and_says_why_and_the_others_go_on() -> None:
    desk = Desk()
    submission = {"to": ["li@example.com"], "template": "x", "data": {"title": "T", "name": "N"}, "list": "n"}
    desk.add(replace(HOURLY, submission=submission))
    desk.add(name="other")
    desk.files = {**FILES, "meta.toml": FILES["meta.toml"].replace('"name"]', '"name", "more"]')}
    desk.after(HOUR + 1)
    assert (desk.states(), desk.states("other")) == ([FAILED], [FIRED])
    assert "more" in desk.outcome()
    (event,) = [event for event in desk.events if isinstance(event, OccurrenceFailed)]
    assert (event.schedule, event.reason) == ("report", desk.outcome())


def test_one_whose_times_cannot_be_told_is_paused_and_the_others_go_on() -> None:
    desk = Desk()
    desk.add()
    desk.add(name="other")
    row = desk.ledger.schedules._rows["report"]
    desk.ledger.schedules._rows["report"] = replace(row, spec=replace(HOURLY, zone="Gone/Zone"))
    desk.after(HOUR + 1)
    assert desk.states("other") == [FIRED]
    found = desk.schedules.get("report")
    assert (found.paused, found.actor) == (True, "dispatcher@schedules")
    assert found.reason == "its times cannot be told here: 'Gone/Zone' is no time zone; write one such as Asia/Shanghai"
    desk.schedules.edit("report", HOURLY, ANNA)
    desk.schedules.resume("report", ANNA)
    assert desk.after(HOUR).states() == [FIRED]


def test_paused_or_removed_by_another_just_then_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.add()
    desk.add(name="other")
    store = desk.ledger.schedules
    store._rows["report"] = replace(store._rows["report"], spec=replace(HOURLY, zone="Gone/Zone"))
    act = store.act

    def twice(*given: Any) -> Any:
        act(*given)
        return act(*given)

    monkeypatch.setattr(store, "act", twice)
    assert desk.after(HOUR + 1).states("other") == [FIRED]
    assert desk.schedules.get("report").paused


@pytest.mark.parametrize(
    "spec", [WEEKLY, replace(HOURLY, with_occurrence=True), replace(HOURLY, late="soon")], ids=["name", "data", "late"]
)
def test_one_that_cannot_be_fired_has_failed_and_those_behind_it_go_on(
    spec: ScheduleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    desk.add()
    desk.add(name="other")
    desk.clock.now += HOUR + 1
    store = desk.ledger.schedules
    with monkeypatch.context() as patch:
        patch.setattr(store, "due", lambda _: [])
        desk.after(0)
    store._rows["report"] = replace(store._rows["report"], spec=replace(spec, zone="Gone/Zone"))
    desk.after(0)
    assert (desk.states(), desk.states("other")) == ([FAILED], [FIRED])
    assert desk.outcome().startswith("cannot be fired here: ")
    (event,) = [event for event in desk.events if isinstance(event, OccurrenceFailed)]
    assert event.reason == desk.outcome()


# -- behind time


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"catch_up": "all"}, [FIRED] * 5),
        ({"catch_up": "latest"}, [SKIPPED] * 4 + [FIRED]),
        ({"catch_up": "skip"}, [SKIPPED] * 4 + [FIRED]),
        ({"catch_up": "skip", "late": "1s"}, [SKIPPED] * 5),
        ({"catch_up": "all", "late": "150m"}, [LATE] * 2 + [FIRED] * 3),
        ({"catch_up": "latest", "late": "1s"}, [SKIPPED] * 4 + [LATE]),
    ],
)
def test_after_a_time_in_which_nobody_looked(changes: Mapping[str, str], expected: list[OccurrenceState]) -> None:
    desk = Desk()
    desk.add(replace(HOURLY, **changes))
    desk.after(5 * HOUR + 10)
    assert desk.states() == expected
    assert len(desk.keys()) == expected.count(FIRED)


def test_what_stayed_due_for_too_long_is_not_fired_either(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.add(replace(HOURLY, catch_up="latest"))
    with monkeypatch.context() as patch:
        patch.setattr(desk.ledger.schedules, "due", lambda _: [])
        desk.after(HOUR + 1)
    assert desk.after(3 * HOUR).states() == [SKIPPED, SKIPPED, SKIPPED, FIRED]


def test_more_than_is_noted_at_once_is_noted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.schedules.AT_ONCE", 3)
    desk = Desk()
    desk.add()
    desk.clock.now += 8 * HOUR + 1
    while desk.advance():
        pass
    assert desk.states() == [FIRED] * 8


def test_it_ends_between_two_when_the_time_is_over() -> None:
    desk = Desk()
    desk.add()
    desk.clock.now += 3 * HOUR + 1
    answers = iter([False, False, True])
    assert desk.schedules.fire(lambda: next(answers))
    assert desk.states() == [FIRED, OccurrenceState.DUE, OccurrenceState.DUE]


# -- acts


def test_paused_it_does_nothing_and_resumed_it_catches_up() -> None:
    desk = Desk()
    desk.add(replace(HOURLY, catch_up="latest"))
    desk.schedules.pause("report", ANNA)
    assert desk.after(3 * HOUR + 1).states() == []
    desk.schedules.resume("report", ANNA)
    assert desk.bells.expansions == 1
    assert desk.after(1).states() == [SKIPPED, SKIPPED, FIRED]


def test_by_hand_it_fires_at_once_however_late_and_beside_its_times() -> None:
    desk = Desk()
    desk.add(replace(HOURLY, catch_up="skip"))
    desk.schedules.pause("report", ANNA)
    desk.schedules.run_now("report", ANNA)
    assert desk.bells.expansions == 1
    with pytest.raises(SubmissionError, match="was run by hand within this second"):
        desk.schedules.run_now("report", ANNA)
    assert desk.after(2 * DAY).states() == [FIRED]
    assert desk.keys()[0].endswith(".500000+00:00")


def test_edited_while_it_is_paused_what_came_up_in_the_pause_is_skipped() -> None:
    desk = Desk()
    desk.add()
    desk.schedules.pause("report", ANNA)
    desk.clock.now += 2 * HOUR + 1
    desk.schedules.edit("report", replace(HOURLY, every="30m"), ANNA)
    desk.schedules.resume("report", ANNA)
    assert desk.after(1).states() == [SKIPPED, SKIPPED]
    assert desk.after(HOUR).states() == [SKIPPED, SKIPPED, FIRED, FIRED]


def test_edited_at_the_moment_at_which_it_is_due_it_still_fires() -> None:
    desk = Desk()
    desk.add()
    desk.clock.now += HOUR + 1
    desk.schedules.edit("report", replace(HOURLY, every="10h"), ANNA)
    assert desk.after(1).states() == [FIRED]
    with pytest.raises(SubmissionError, match=r"submission\.to"):
        desk.schedules.edit("report", replace(HOURLY, submission={**MAIL, "to": ["x"]}), ANNA)
    with pytest.raises(NotFound, match="did you mean report"):
        desk.schedules.edit("rport", HOURLY, ANNA)


def test_removed_it_leaves_what_has_fired() -> None:
    desk = Desk()
    desk.add()
    desk.after(HOUR + 1)
    desk.schedules.remove("report", ANNA)
    assert (desk.schedules.listed(), len(desk.keys())) == ([], 1)


def test_the_next_times_are_told_also_of_one_that_is_paused() -> None:
    desk = Desk()
    begin = desk.add().created_at
    desk.schedules.pause("report", ANNA)
    desk.clock.now += 1.5 * HOUR
    assert [time.at for time in desk.schedules.next("report", 2)] == [begin + 2 * HOUR, begin + 3 * HOUR]


# -- campaigns


def weekly(**options: Any) -> Desk:
    """A Friday in January; the campaign is due on Monday at 8:30 in Berlin."""
    desk = Desk(**options)
    desk.add(WEEKLY, "news")
    return desk


NAME = "news-2027-01-18T0830"


def test_each_occurrence_is_a_campaign_that_is_checked_and_started() -> None:
    desk = weekly()
    desk.after(3 * DAY)
    assert (desk.states("news"), desk.outcome("news")) == ([FIRED], f"campaign {NAME}")
    found = desk.dispatcher.campaigns.get(NAME)
    assert (found.state, found.actor) == (CampaignState.RUNNING, "dispatcher@schedules")
    assert desk.send() == ["P2@example.com", "P3@example.com"]
    desk.after(7 * DAY)
    assert [each.name for each in desk.dispatcher.campaigns.listed()] == ["news-2027-01-25T0830", NAME]


@pytest.mark.parametrize("step", ["create", "check", "start", "done"])
def test_killed_after_any_step_it_is_taken_up_where_it_stands(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = weekly()
    target = desk.ledger.schedules if step == "done" else desk.ledger.campaigns
    real = getattr(target, step)

    def killed(*given: Any) -> None:
        real(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(target, step, killed)
        with pytest.raises(KeyboardInterrupt):
            desk.after(3 * DAY)
    desk.after(1)
    if step != "done":
        assert desk.states("news") == [OccurrenceState.DUE]  # whoever held it may be at it still
    desk.after(HOLD_SECONDS)
    assert desk.states("news") == [FIRED]
    assert [each.name for each in desk.dispatcher.campaigns.listed()] == [NAME]
    desk.advance()
    assert desk.send() == ["P2@example.com", "P3@example.com"]


def test_a_check_that_fails_is_the_occurrences_end_and_says_why() -> None:
    desk = weekly()
    desk.people({"city": "Rome"})
    desk.after(3 * DAY)
    assert desk.states("news") == [FAILED]
    assert desk.outcome("news").startswith(f"campaign {NAME}: its check has failed: data: ")
    assert desk.dispatcher.campaigns.get(NAME).state is CampaignState.DRAFT
    assert desk.ledger.totals().accepted == 0


def test_another_campaign_of_that_name_is_left_alone() -> None:
    desk = weekly()
    other = replace(desk.draft().spec, data={"title": "Another"})
    desk.dispatcher.campaigns.create(NAME, other, ANNA)
    desk.after(3 * DAY)
    assert (desk.states("news"), desk.outcome("news")) == (
        [FAILED],
        f"campaign {NAME} is there already, and is another one",
    )


def test_a_check_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = weekly()
    held = desk.ledger.suppressions.held

    def slowly(*given: Any) -> Any:
        desk.clock.now += 100
        return held(*given)

    monkeypatch.setattr(desk.ledger.suppressions, "held", slowly)
    monkeypatch.setattr("dispatcher.campaigns.PAGE", 1)
    desk.after(3 * DAY)
    assert desk.states("news") == [FAILED]
    assert desk.outcome("news") == "check: takes more than 60 s; check and start it by hand"


def test_a_check_goes_on_being_held_while_it_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = weekly()
    render, tick = Template.render, desk.ledger.tick
    rendered, ticked = list[float](), list[float]()

    def slowly(*given: Any) -> Any:
        desk.clock.now += HOLD_SECONDS - 1
        rendered.append(desk.clock.now)
        return render(*given)

    def noting(name: str, every: float) -> bool:
        if name.startswith("schedule "):
            ticked.append(desk.clock.now)
        return tick(name, every)

    desk.people({"name": "Ann"}, {"name": "Bob", "city": "Rome"}, {"name": "Cem", "age": 3})
    monkeypatch.setattr(Template, "render", slowly)
    monkeypatch.setattr(desk.ledger, "tick", noting)
    assert desk.after(3 * DAY).states("news") == [FIRED]
    assert len(rendered) == 3
    assert ticked[-2:] == rendered[:-1]  # each is begun with a hold of its own


def test_while_one_makes_a_campaign_no_other_does() -> None:
    desk = weekly()
    number = desk.schedules.get("news").id
    desk.clock.now += 3 * DAY
    desk.ledger.tick(f"schedule {number}", 0.0)
    desk.advance()
    assert desk.states("news") == [OccurrenceState.DUE]
    assert desk.after(HOLD_SECONDS + 1).states("news") == [FIRED]


def test_started_by_another_meanwhile_it_has_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = weekly()
    start = desk.ledger.campaigns.start

    def twice(*given: Any) -> Any:
        start(*given)
        return start(*given)

    monkeypatch.setattr(desk.ledger.campaigns, "start", twice)
    assert desk.after(3 * DAY).states("news") == [FIRED]


def test_made_by_another_meanwhile_it_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = weekly()
    create = desk.ledger.campaigns.create

    def twice(*given: Any) -> Any:
        create(*given)
        return create(*given)

    monkeypatch.setattr(desk.ledger.campaigns, "create", twice)
    assert desk.after(3 * DAY).states("news") == [FIRED]


def test_submissions_do_not_wait_for_the_checks_of_campaigns(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = weekly()
    desk.add()
    order: list[bool] = []
    done = desk.ledger.schedules.done

    def noting(due: Due, *rest: Any) -> bool:
        order.append(due.schedule.spec.campaign is not None)
        return done(due, *rest)

    monkeypatch.setattr(desk.ledger.schedules, "done", noting)
    desk.after(3 * DAY)
    assert order == sorted(order)
    assert len(order) > 2


def test_what_ended_long_ago_goes_with_the_upkeep() -> None:
    desk = Desk()
    desk.add()
    desk.after(2 * HOUR + 1)
    desk.schedules.pause("report", ANNA)
    desk.clock.now += 91 * DAY
    removed = desk.dispatcher.upkeep(60.0)
    assert removed is not None
    assert removed.occurrences == 2
    assert desk.states() == []
