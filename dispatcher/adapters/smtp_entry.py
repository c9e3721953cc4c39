"""The way into a session: greeted, under TLS, logged in (RFC 5321 section 3.2, RFC 3207, RFC 4954)."""

from collections.abc import Callable

from dispatcher.adapters.smtp_auth import authenticate
from dispatcher.adapters.smtp_wire import Silence, Wire
from dispatcher.errors import ConnectFailed, TlsFailed
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import Phase, Reply


def enter(relay: Relay, crowd: Callable[[Reply], None]) -> tuple[Wire, Capabilities]:
    """Connect and come in; what is offered there. Raises ConnectFailed, TlsFailed, AuthFailed, and what ``crowd`` does,
    which is told of a reply that may mean one connection too many."""
    wire = Wire.connect(relay)
    try:
        return wire, _come_in(wire, relay, crowd)
    except Silence as silence:
        wire.close(polite=False)
        raise ConnectFailed(relay.name, f"{relay.display}: {silence}") from silence
    except BaseException:
        wire.close(polite=False)
        raise


def _come_in(wire: Wire, relay: Relay, crowd: Callable[[Reply], None]) -> Capabilities:
    wire.wait(relay.timeout_command)
    _welcome(relay, wire.read(Phase.CONNECT), crowd)
    _greet(wire, relay, crowd)
    if relay.tls == "starttls":
        if not wire.capabilities(None).offers("STARTTLS"):
            raise TlsFailed(relay.name, f"{relay.display}: the server offers no STARTTLS")
        reply = wire.ask("STARTTLS", Phase.TLS)
        if not reply.positive:
            raise TlsFailed(relay.name, f"{relay.display}: STARTTLS was refused: {reply}")
        wire.secure(relay)
        wire.wait(relay.timeout_command)
        _greet(wire, relay, crowd)
    return wire.capabilities(authenticate(wire, relay, wire.capabilities(None)))


def _greet(wire: Wire, relay: Relay, crowd: Callable[[Reply], None]) -> None:
    """EHLO, or HELO for a server that knows no better where neither STARTTLS nor AUTH is needed."""
    reply = wire.hello(relay.ehlo)
    if reply.code // 100 == 5 and relay.tls != "starttls" and relay.username is None:  # noqa: PLR2004 - refused for good
        reply = wire.ask(f"HELO {relay.ehlo or wire.own_name()}", Phase.EHLO)
    _welcome(relay, reply, crowd)


def _welcome(relay: Relay, reply: Reply, crowd: Callable[[Reply], None]) -> None:
    if reply.code // 100 == 4:  # noqa: PLR2004 - RFC 5321 section 4.2.1: not now
        crowd(reply)
    if not reply.positive:
        raise ConnectFailed(relay.name, f"{relay.display}: refused at {reply.phase}: {reply}")
