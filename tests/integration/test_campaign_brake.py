"""What relays answer pauses a campaign: over a real ledger, a real session and a sink that refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.audience import Column, Member
from dispatcher.bootstrap import build
from dispatcher.campaign import Campaign, CampaignSpec, CampaignState
from dispatcher.delivery import Actor, Lane, Selector, State
from dispatcher.dispatcher import Dispatcher
from dispatcher.kind import Kind
from dispatcher.servers.sink import Rule, Script, Sink
from dispatcher.sources import load

ANNA = Actor("anna", "desk")
PEOPLE = 600
DATA = {"title": "Autumn", "intro": "it is cold."}


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as made:
        yield made


@pytest.fixture
def dispatcher(sink: Sink, tmp_path: Path) -> Iterator[Dispatcher]:
    """With batches so small that the relay's own pause, after 20 in a row, is met at the end of one."""
    settings = load({}, data_dir=tmp_path / "var", relay_url=sink.url, delivery={"batch_size": 20})
    with build(settings, sink=lambda _: None) as made:
        yield made


def begin(dispatcher: Dispatcher) -> None:
    """A campaign to everybody, expanded."""
    audiences = dispatcher.ledger.audiences
    version = audiences.begin("people", "people.csv", (Column("email", Kind.ADDRESS, "Mail"),), ANNA)
    audiences.add(
        version.id, [Member(n, f"p{n}@example.com", f"p{n}@example.com", {}) for n in range(2, 2 + PEOPLE)], []
    )
    audiences.ready(version.id, ANNA)
    spec = CampaignSpec("newsletter", "people", "news", data=DATA, from_="shop@example.com")
    dispatcher.campaigns.create("spring", spec, ANNA)
    assert (dispatcher.campaigns.check("spring", ANNA).checked or {})["ok"]
    dispatcher.campaigns.start("spring", ANNA)
    while dispatcher.advance(5.0, again=True):
        pass


def send(dispatcher: Dispatcher) -> Campaign:
    """Until it stands still: each pause of the relay's own is lifted, as time would."""
    for _ in range(PEOPLE):
        if not dispatcher.deliver(Lane.BULK):
            break
        for pause in dispatcher.ledger.pauses():
            if pause.kind == "relay":
                dispatcher.ledger.resume("relay", pause.name, ANNA)
    return dispatcher.campaigns.get("spring")


def states(dispatcher: Dispatcher) -> dict[str, int]:
    sums = dispatcher.campaigns.sums("spring")
    assert not sums.faults()
    return {state.value: count for state, count in sums.states.items()}


def test_fifty_that_are_deferred_with_the_same_words_pause_it(dispatcher: Dispatcher, sink: Sink) -> None:
    sink.follow(Script([Rule("*", "451 4.7.1 Try again later <p1@example.com> (id 4fA1)", after=0)]))
    begin(dispatcher)
    found = send(dispatcher)
    assert found.state is CampaignState.PAUSED
    assert found.reason.startswith("50 replies in a row said: 451 4.7.1 Try again later")
    counted = states(dispatcher)
    assert 50 <= counted["deferred"] <= 60
    assert set(counted) == {"deferred", "queued"}
    sink.follow(Script())
    dispatcher.campaigns.act("spring", "resume", ANNA)
    while dispatcher.deliver(Lane.BULK):
        pass
    assert states(dispatcher) == {"sent": PEOPLE - counted["deferred"], "deferred": counted["deferred"]}


def test_more_than_one_in_twenty_of_the_last_500_refused_pause_it(dispatcher: Dispatcher, sink: Sink) -> None:
    refusing = [Rule(f"p{n}@example.com", f"550 5.7.1 Message {n} refused") for n in range(100, 602, 3)]
    sink.follow(Script(refusing))
    begin(dispatcher)
    found = send(dispatcher)
    assert found.state is CampaignState.PAUSED
    assert found.reason.endswith("replies were refusals")
    counted = states(dispatcher)
    assert 26 <= counted["bounced"] <= 46
    assert counted["queued"] > 300
    assert dispatcher.suppressions.count() == 0


def test_one_in_twenty_is_not_yet_a_reason(dispatcher: Dispatcher, sink: Sink) -> None:
    refusing = [Rule(f"p{n}@example.com", "550 5.1.1 No such user") for n in range(2, 602, 24)]
    sink.follow(Script(refusing))
    begin(dispatcher)
    assert send(dispatcher).state is CampaignState.RUNNING
    assert states(dispatcher) == {"sent": PEOPLE - len(refusing), "bounced": len(refusing)}
    assert dispatcher.suppressions.count() == len(refusing)  # the next campaign skips them
    gone = {row.rcpt for row in dispatcher.ledger.find(Selector(states=(State.BOUNCED,)))}
    assert gone == {rule.address for rule in refusing}


def test_a_relay_that_refuses_everybody_with_the_same_words_is_met_by_few(dispatcher: Dispatcher, sink: Sink) -> None:
    sink.follow(Script([Rule("*", "554 5.7.1 This message looks like spam")]))
    begin(dispatcher)
    found = send(dispatcher)
    assert found.state is CampaignState.PAUSED
    assert found.reason.endswith("replies were refusals")
    assert states(dispatcher)["bounced"] <= 60
