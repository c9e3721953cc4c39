"""Trouble of the relay's bounces nothing and costs no attempt; a poisonous mail never blocks its batch."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dispatcher.bootstrap import build
from dispatcher.delivery import Actor, Lane, Selector
from dispatcher.dispatcher import Dispatcher
from dispatcher.reply import Phase
from dispatcher.servers.sink import Rule, Sink
from dispatcher.sources import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "var"


def dispatcher_for(url: str, folder: Path, **settings: Any) -> Dispatcher:
    return build(
        load({}, data_dir=folder, relay_url=url, **{"from": "shop@example.com"}, **settings), sink=lambda _: None
    )


def mail(n: int, **changes: Any) -> dict[str, Any]:
    return {"to": [f"buyer{n}@example.com"], "subject": f"Mail {n}", "text": "Hello", "lane": "bulk", **changes}


def accept(dispatcher: Dispatcher, *documents: dict[str, Any]) -> None:
    assert all(not isinstance(answer, Exception) for answer in dispatcher.submit_many(documents))


def states(dispatcher: Dispatcher) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for (_, state), count in dispatcher.ledger.totals().states.items():
        counted[state.value] += count
    return dict(counted)


def lift(dispatcher: Dispatcher) -> None:
    """End all pauses at once, as time would."""
    for pause in dispatcher.ledger.pauses():
        dispatcher.ledger.resume(pause.kind, pause.name, Actor("tester", "localhost"))


def test_a_changed_password_bounces_nothing_and_says_so(folder: Path) -> None:
    with Sink(users={"erp": "new"}) as sink:
        url = f"smtp://erp:old-secret@127.0.0.1:{sink.port}?tls=none&insecure_auth=1"
        with dispatcher_for(url, folder) as dispatcher:
            accept(dispatcher, *[mail(n) for n in range(20)])
            dispatcher.deliver(Lane.BULK)
            assert states(dispatcher) == {"queued": 20}
            assert {d.attempts for d in dispatcher.ledger.find(Selector())} == {0}
            (pause,) = dispatcher.ledger.pauses()
            assert "535" in pause.reason
            assert "old-secret" not in pause.reason
        with dispatcher_for(url.replace("old-secret", "new"), folder) as dispatcher:
            lift(dispatcher)
            _until_sent(dispatcher, 20)


def test_a_daily_quota_from_message_1001_on_bounces_nothing(folder: Path) -> None:
    quota = Rule("*", "550 5.4.5 Daily sending quota exceeded", phase=Phase.MAIL, after=1000)
    with Sink(rules=[quota]) as sink, dispatcher_for(sink.url, folder) as dispatcher:
        accept(dispatcher, *[mail(n) for n in range(1200)])
        while dispatcher.deliver(Lane.BULK):
            pass
        assert states(dispatcher) == {"sent": 1000, "queued": 200}
        assert len(sink.received()) == 1000
        (pause,) = dispatcher.ledger.pauses()
        assert "5.4.5" in pause.reason
        waiting = [d for d in dispatcher.ledger.find(Selector()) if d.state == "queued"]
        assert {d.attempts for d in waiting} == {0}


def test_a_relay_that_cannot_be_reached_costs_no_attempt(folder: Path) -> None:
    with Sink() as sink:
        url = sink.url
    with dispatcher_for(url, folder) as dispatcher:
        accept(dispatcher, mail(1))
        dispatcher.deliver(Lane.BULK)
        (delivery,) = dispatcher.ledger.find(Selector())
        assert (delivery.state, delivery.attempts) == ("queued", 0)
        assert [pause.name for pause in dispatcher.ledger.pauses()] == ["default"]


def test_the_next_relay_takes_over_when_the_first_cannot_be_reached(folder: Path) -> None:
    with Sink() as down:
        pass
    relays = {"first": {"url": down.url, "priority": 1}, "second": {"priority": 2}}
    with Sink() as sink:
        relays["second"]["url"] = sink.url
        settings = load({}, data_dir=folder, relays=relays, **{"from": "shop@example.com"})
        with build(settings, sink=lambda _: None) as dispatcher:
            accept(dispatcher, *[mail(n) for n in range(3)])
            _until_sent(dispatcher, 3)
        assert len(sink.received()) == 3


def test_a_poisonous_template_and_a_mail_too_large_end_alone(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "templates" / "poison"
    own.mkdir(parents=True)
    (own / "meta.toml").write_text('description = "x"\n[schema]\ntype = "object"\n[sample]\nn = 1\n')
    (own / "subject.txt").write_text("Half of {{ 2 / n }}")
    (own / "body.txt").write_text("x")
    rules = [Rule("big@*", "552 5.3.4 Message too large", phase=Phase.FINAL)]
    with Sink(rules=rules) as sink, dispatcher_for(sink.url, folder, templates_dir=own.parent) as dispatcher:
        poison = {"template": "poison", "to": ["poisoned@example.com"], "lane": "bulk"}
        accept(
            dispatcher,
            mail(1),
            {**poison, "data": {"n": 0}},
            mail(2),
            mail(3, to=["big@example.com"]),
            {**poison, "data": {"n": 1}},
            mail(4),
        )
        dispatcher.deliver(Lane.BULK)
        assert states(dispatcher) == {"sent": 4, "invalid": 1, "bounced": 1}
        invalid = next(d for d in dispatcher.ledger.find(Selector()) if d.state == "invalid")
        assert "poison/subject.txt:1" in invalid.text


def test_one_refused_recipient_of_a_message_does_not_keep_it_from_the_others(folder: Path) -> None:
    with Sink(rules=[Rule.refuse("gone@*"), Rule.defer("busy@*")]) as sink:
        with dispatcher_for(sink.url, folder, retry={"schedule": ["1ms"]}) as dispatcher:
            accept(dispatcher, mail(1, to=["ada@example.com"], cc=["gone@example.com"], bcc=["busy@example.com"]))
            dispatcher.deliver(Lane.BULK)
            assert states(dispatcher) == {"sent": 1, "bounced": 1, "deferred": 1}
            _until_sent(dispatcher, 2)
        first, second = sink.received()
        assert (first.rcpt_to, second.rcpt_to) == (("ada@example.com",), ("busy@example.com",))
        assert (first.sha256, first.message_id) == (second.sha256, second.message_id)


def _until_sent(dispatcher: Dispatcher, count: int) -> None:
    for _ in range(200):
        dispatcher.deliver(Lane.BULK)
        if states(dispatcher).get("sent") == count:
            return
    raise AssertionError(states(dispatcher))
