"""From what is known of a delivery to what the ledger is told: pure, the same for a worker and for a replay."""

from typing import NamedTuple

from dispatcher.delivery import LeasedDelivery, LeasedMessage, Settlement, State
from dispatcher.ledger import LEASE_ENDED
from dispatcher.reply import NoReply, Phase, Result
from dispatcher.retry import Decision, RetryPolicy, decide

_GOLDEN = 0.6180339887498949  # multiples of it lie evenly between whole numbers
UNBEGUN = "its worker ended before it was begun"


class Told(NamedTuple):
    """An answered transaction: over which relay, how many seconds it took, when it ended (seconds since the epoch), and
    what was sent."""

    relay: str
    seconds: float
    at: float
    sha256: str | None
    build: str


def verdict(
    leased: LeasedMessage, delivery: LeasedDelivery, result: Result, *, now: float, policy: RetryPolicy
) -> Decision:
    """What to do after this result; ``now`` is the ledger's clock."""
    return decide(
        result,
        attempts=delivery.attempts,
        remaining=delivery.expires_at - now,
        policy=policy,
        if_in_doubt=leased.if_in_doubt,
        luck=_luck(leased.id),
    )


def _luck(message: int) -> float:
    """A number in [0, 1) that spreads a crowd; recipients of one message share it, so that they stay due together."""
    return message * _GOLDEN % 1.0


def answered(delivery: int, message: int, result: Result, decision: Decision, told: Told) -> Settlement:
    """The settlement of a delivery whose result is known."""
    code, enhanced, text = (
        (None, None, result.reason) if isinstance(result, NoReply) else (result.code, result.enhanced, result.text)
    )
    return Settlement(
        delivery=delivery,
        message=message,
        state=decision.state,
        attempted=decision.attempted,
        due_in=decision.due_in,
        code=code,
        enhanced=enhanced,
        text=text,
        relay=told.relay or None,
        phase=result.phase,
        seconds=told.seconds,
        at=told.at,
        sha256=told.sha256,
        build=told.build,
        in_doubt=isinstance(result, NoReply) and result.phase is Phase.FINAL,
    )


def unheard(
    delivery: int, message: int, if_in_doubt: str, *, attempted: bool, sha256: str | None, build: str
) -> Settlement:
    """The settlement of a delivery whose process ended without saying what became of it: it may have been sent."""
    return Settlement(
        delivery,
        message,
        State.IN_DOUBT if if_in_doubt == "hold" else State.QUEUED,
        attempted=attempted,
        text=LEASE_ENDED,
        phase=Phase.FINAL if attempted else None,
        sha256=sha256,
        build=build,
        crashed=True,
        in_doubt=True,
    )


def unbegun(delivery: int, message: int, *, crashed: bool) -> Settlement:
    """The settlement of a delivery that is known not to have been sent."""
    return Settlement(delivery, message, State.QUEUED, attempted=False, text=UNBEGUN, crashed=crashed)
