"""A relay that refuses a connection while others of ours are open is not ill: it takes no more than those."""

from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.errors import ConnectFailed, LimitReached
from dispatcher.memory import MemoryJournal, MemoryLimiter
from dispatcher.rate import Usage
from dispatcher.reply import NoReply, Reply
from tests.limits import rate
from tests.smtpd import Peer, ScriptedServer, TellingJournal, message


def take_and_quit(peer: Peer) -> None:
    peer.greet()
    peer.take()
    peer.quit()


def refuse_mail(peer: Peer) -> None:
    peer.greet()
    peer.hear("MAIL")
    peer.say("421 4.7.0 Too many concurrent SMTP connections")


REFUSALS = [
    lambda peer: peer.say("421 4.3.2 too busy"),
    lambda peer: peer.say("450 4.7.1 not now"),
    lambda peer: (peer.say("220 hello"), peer.hear("EHLO"), peer.say("421 4.7.0 try later")),
    refuse_mail,
]
IDS = ["421", "450", "421 at EHLO", "421 at MAIL"]


@pytest.mark.parametrize("refuse", REFUSALS, ids=IDS)
def test_a_refused_connection_while_others_are_open_is_a_limit(refuse: Callable[[Peer], Any]) -> None:
    limiter, journal = MemoryLimiter(), TellingJournal()
    other = limiter.beside()
    with ScriptedServer(refuse) as server:
        relay = server.relay()
        limiter.limits({relay.name: relay})
        assert [other.enter(relay.name), other.enter(relay.name)] == [0, 0]
        transport = SmtpTransport(relay, limiter=limiter)
        with pytest.raises(LimitReached, match="it takes no more than 2 connections: 4") as caught:
            next(transport.send([message(1)], journal))
        assert caught.value.seconds > 0
        assert limiter.usage()[relay.name] == Usage((), 2, 2, learned=True)
        with pytest.raises(LimitReached, match="all connections that it allows are in use"):
            next(transport.send([message(1)], journal))
        assert "idle=0 busy=0" in repr(transport)
    assert journal.events == []
    assert server.connections == 1


@pytest.mark.parametrize("refuse", REFUSALS[:3], ids=IDS[:3])
def test_the_only_connection_refused_is_the_relays_trouble(refuse: Callable[[Peer], Any]) -> None:
    limiter = MemoryLimiter()
    with ScriptedServer(refuse) as server:
        relay = server.relay()
        limiter.limits({relay.name: relay})
        transport = SmtpTransport(relay, limiter=limiter)
        with pytest.raises(ConnectFailed):
            next(transport.send([message(1)], MemoryJournal()))
        assert limiter.usage()[relay.name] == Usage((), 0, None)


def test_the_only_connection_refused_at_mail_is_the_answer_to_the_message() -> None:
    with ScriptedServer(refuse_mail) as server:
        transport = SmtpTransport(server.relay(), limiter=MemoryLimiter())
        (outcome,) = transport.send([message(1)], MemoryJournal())
        ((_, result),) = outcome.results
        assert isinstance(result, Reply)
        assert result.code == 421
        transport.close()


def test_no_message_is_drawn_before_there_is_a_connection() -> None:
    limiter, drawn = MemoryLimiter(), []

    def messages() -> Any:
        drawn.append(server.connections)
        yield message(1)
        drawn.append(server.connections)
        yield message(2)

    with ScriptedServer(take_and_quit, take_and_quit) as server:
        relay = server.relay(max_connections=1, max_messages_per_connection=1, rate=rate((100, 1.0)))
        limiter.limits({relay.name: relay})
        transport = SmtpTransport(relay, limiter=limiter)
        outcomes = transport.send(messages(), MemoryJournal())
        for _ in range(2):
            assert not isinstance(next(outcomes).results[0][1], NoReply)
        outcomes.close()
        transport.close()
    assert drawn == [1, 2]
    assert limiter.usage()[relay.name].connections == 0
