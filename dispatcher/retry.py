"""What becomes of a delivery after a result: a pure decision, a value that sends and sleeps nothing."""

from dataclasses import dataclass, replace

from dispatcher.delivery import State
from dispatcher.reply import NoReply, Phase, Reply, ReplyClass, Result, classify

_REFUSED_RELAYING_SECONDS = 300.0
_CLOSING = 421
_DEEP = (Phase.RCPT, Phase.DATA, Phase.FINAL)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again: seconds before each next attempt (the last one repeats), and the share of jitter."""

    schedule: tuple[float, ...] = (60, 300, 900, 3600, 7200, 14400, 28800, 57600, 86400)
    jitter: float = 0.1

    def delay(self, attempts: int, luck: float) -> float:
        """Seconds until the attempt after ``attempts`` made ones; ``luck`` in [0, 1) spreads a crowd."""
        base = self.schedule[min(max(attempts, 1), len(self.schedule)) - 1]
        return base * (1 + self.jitter * (2 * luck - 1))


@dataclass(frozen=True, slots=True)
class Decision:
    """The next state. ``trouble`` names the class of a reply that is about the relay and asks for a pause."""

    state: State
    attempted: bool
    due_in: float = 0.0
    trouble: ReplyClass | None = None


_SENT = Decision(State.SENT, attempted=True)


def decide(  # noqa: PLR0911 - a table: one return per row
    result: Result, *, attempts: int, remaining: float, policy: RetryPolicy, if_in_doubt: str, luck: float
) -> Decision:
    """Decide by phase, then by code (RFC 5321 section 4.2.1).

    ``attempts`` were made before this one; ``remaining`` is the seconds of lifetime that are left.
    """
    if isinstance(result, NoReply):
        if result.phase is Phase.FINAL and if_in_doubt == "hold":
            return Decision(State.IN_DOUBT, attempted=True)
        # Before the final dot nothing was accepted; after it the policy says to send the same bytes again.
        state = State.QUEUED if result.phase is Phase.FINAL else State.DEFERRED
        return _again(state, attempts, remaining, policy, luck)
    kind = classify(result)
    if kind is ReplyClass.SUCCESS:
        return _SENT
    if kind is ReplyClass.TRANSIENT:
        return _again(State.DEFERRED, attempts, remaining, policy, luck)
    if kind in (ReplyClass.ACCOUNT, ReplyClass.RATE):
        return Decision(State.QUEUED, attempted=False, trouble=kind)
    if kind is ReplyClass.RELAY and result.code == _CLOSING and result.phase in _DEEP:
        # It may be this very mail that makes the relay close: an attempt is spent, and everybody else pauses.
        return replace(_again(State.DEFERRED, attempts, remaining, policy, luck), trouble=kind)
    if kind is ReplyClass.RELAY:
        return _relay(result)
    return Decision(State.BOUNCED, attempted=True)


def _again(state: State, attempts: int, remaining: float, policy: RetryPolicy, luck: float) -> Decision:
    delay = policy.delay(attempts + 1, luck)
    if delay >= remaining:
        return Decision(State.EXPIRED, attempted=True)
    return Decision(state, attempted=True, due_in=delay)


def _relay(reply: Reply) -> Decision:
    """A relay that will not relay for one recipient must not be stopped for all the others."""
    if reply.phase is Phase.RCPT:
        return Decision(State.QUEUED, attempted=False, due_in=_REFUSED_RELAYING_SECONDS)
    return Decision(State.QUEUED, attempted=False, trouble=ReplyClass.RELAY)
