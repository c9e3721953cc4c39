"""What every ledger decides alike, whatever it is kept in: pure rules over values. The rows are in the adapters."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from dispatcher.delivery import TRANSITIONS, Actor, Selector, Settlement, State
from dispatcher.records import Pause
from dispatcher.reply import Reply
from dispatcher.schema import merge
from dispatcher.suppression import ALL, Reason, Suppression, normal
from dispatcher.template import TemplateVersion

KEY_SECONDS = 30 * 86400.0  # how long an idempotency key is remembered at least
RECEIPT_RECIPIENTS = 100
ACT_SECONDS = 365 * 86400.0  # how long what people did is remembered at least
LEASE_ENDED = "its worker ended"  # or begins with these words: by them a timeline keeps it
HOST_LOST = "its host was lost"
LIFETIME_USED_UP = "lifetime used up"
KILLED_ITS_WORKER = "ended its worker four times"
CAMPAIGN = "campaign/"  # before the public id of a campaign's submission, where it stands among names of relays
BRAKE = "its own brake"  # who paused a campaign that met too much trouble
ALONE_AFTER = 2  # crashes: from then on a message is leased alone, so that it takes no other down with it
INVALID_AFTER = 4

ADDED, REMOVED = "suppress", "allow"  # what a person does about a suppression
RESOLVED = {"resubmitted": "resubmit", "dropped": "drop"}  # a reject's outcome -> what a person did

WIPED: dict[str, Any] = {}  # what stands for the secrets of a message that had some, once it is settled

_NAMED_IDS = 5  # of a change, in its act; each delivery names its change anyway
_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 5.0, 300.0
_MAX_AWAY_SECONDS = 10.0  # of a relay that is just away: a try costs it nothing, and it is missed


def avoided(names: Iterable[str | None]) -> tuple[set[str], set[str]]:
    """Of what a lease avoids (see ``interfaces.Ledger.lease``) the relays, and the public ids of submissions."""
    known = {name for name in names if name}
    campaigns = {name for name in known if name.startswith(CAMPAIGN)}
    return known - campaigns, {name.removeprefix(CAMPAIGN) for name in campaigns}


def crashed_with(current: State, crashes: int, settlement: Settlement) -> int:
    """How often its worker ended with it, this time too: in a row, since an attempt that was answered clears it of
    suspicion. When its lease was ended before, that was counted then."""
    if settlement.attempted and not settlement.crashed:
        return 0
    return crashes + (settlement.crashed and current is State.LEASED)


def settled_as(current: State, settlement: Settlement, crashes: int) -> State | None:
    """The state that a settlement leads to, or None where it may not change anything; ``crashes`` counts this time too.

    What is learned late of a delivery in doubt can only be that it was sent, bounced, or not sent: then it is queued.
    """
    wanted = settlement.state
    if current is State.LEASED and wanted is State.QUEUED and settlement.crashed and crashes >= INVALID_AFTER:
        return State.INVALID
    if current is State.IN_DOUBT and wanted in (State.DEFERRED, State.EXPIRED):
        wanted = State.QUEUED
    if current is State.QUEUED and wanted not in (State.SENT, State.BOUNCED):
        return None  # the lease was ended, and what it could not send is queued already
    owned = (State.LEASED, State.IN_DOUBT, State.QUEUED)
    return wanted if current in owned and wanted in TRANSITIONS[current] else None


def keeps_token(settlement: Settlement, state: State) -> bool:
    """Whether a reply that is still learned counts after a settlement that led to this state: it is held in doubt, or
    goes again since nobody knows."""
    return state is State.IN_DOUBT or (state is State.QUEUED and settlement.in_doubt)


def noted(settlement: Settlement, state: State) -> tuple[State, str]:
    """What a timeline says of a settlement that led to this state: a state, and the text."""
    killed = state is State.INVALID and settlement.state is State.QUEUED
    text = KILLED_ITS_WORKER if killed else settlement.text or (LEASE_ENDED if settlement.crashed else "")
    return State.IN_DOUBT if settlement.in_doubt else state if killed else settlement.state, text


def replaces(new: Settlement, state: str | None, attempted: bool | None, actor: str | None, text: str | None) -> bool:
    """Whether a settlement takes the place of what a timeline ends with: that entry's state, attempted, actor, text.

    So it does when both only give the delivery back untried, as a limit or a relay in trouble may do for days.
    Attempts, doubts, what a person did, and leases that ended with their workers stay.
    """
    ended = (text or "").startswith(LEASE_ENDED)
    given_back = state == State.QUEUED and not attempted and actor is None and not ended
    return given_back and new.state is State.QUEUED and not (new.attempted or new.crashed or new.in_doubt)


def changeable(wanted: State) -> tuple[State, ...]:
    """The states that a person may change into this one; a lease is its worker's until it ends. Raises ValueError."""
    if wanted not in (State.CANCELLED, State.QUEUED, State.SENT, State.BOUNCED):
        raise ValueError(f"a delivery cannot be made {wanted} by hand")
    if wanted in (State.SENT, State.BOUNCED):
        return (State.IN_DOUBT,)
    return tuple(state for state in State if state is not State.LEASED and wanted in TRANSITIONS[state])


def reclaimed(if_in_doubt: str, crashes: int) -> State:
    """Where a delivery goes whose host is lost; ``crashes`` counts this time too."""
    if if_in_doubt == "hold":
        return State.IN_DOUBT
    return State.INVALID if crashes >= INVALID_AFTER else State.QUEUED


def together(crashes: Mapping[int, int]) -> list[int]:
    """Which of these messages, in their order, go into one lease, by how often each was in one that ended badly."""
    first = next(iter(crashes), None)
    if first is not None and crashes[first] >= ALONE_AFTER:
        return [first]
    return [message for message, count in crashes.items() if count < ALONE_AFTER]


def holds(pause: Pause, now: float) -> bool:
    """Whether a pause is open: nothing that it names is leased."""
    return pause.until is None or pause.until > now


def pause_seconds(before: Pause | None, asked: float | None, now: float) -> float | None:
    """How long the dispatcher's own next pause lasts; None while the one before still holds, and is long enough.

    It doubles while it comes again soon, or nothing has come through since, up to five minutes; up to ten seconds
    where a relay is just away. A pause that a person has set is never cut short.
    """
    base = _PAUSE_SECONDS if asked is None else asked
    if before is None:
        return base
    if before.until is None:
        return None
    length = round(before.until - before.since, 3)
    if before.until > now:
        return base if asked is not None and asked > length else None
    if before.actor is not None or (not before.half_open and now - before.until >= 2 * length):
        return base
    return max(base, min(2 * length, _MAX_PAUSE_SECONDS if base > _PAUSE_SECONDS else _MAX_AWAY_SECONDS))


def act_of(selector: Selector, state: State) -> tuple[str, str]:
    """What a person does who changes these deliveries into this state, as it stands among the acts: the verb, and
    which deliveries were meant."""
    in_doubt = selector.states == (State.IN_DOUBT,)
    verb = "resolve" if in_doubt else {State.CANCELLED: "cancel", State.QUEUED: "retry"}.get(state, "resolve")
    left = len(selector.ids) - _NAMED_IDS
    words = [*selector.ids[:_NAMED_IDS], *([f"and {left} more"] if left > 0 else [])]
    words += [f"{name}={value}" for name, value in _asked(selector)]
    return verb, " ".join([*words, f"as {state}"] if verb == "resolve" else words)


def _asked(selector: Selector) -> Iterator[tuple[str, object]]:
    """What a selector asks for beside the ids."""
    for name in (each.name for each in fields(selector)):
        value = getattr(selector, name)
        if name == "states":
            yield from (("state", each) for each in value)
        elif name == "metadata":
            yield from value
        elif name == "since" and value is not None:
            yield name, datetime.fromtimestamp(value, UTC).isoformat()
        elif name != "ids" and value is not None:
            yield name, value


def publishing(version: TemplateVersion) -> str:
    """The subject of the act by which a template version is published."""
    return f"{version.name} {version.digest[:12]}"


def bounced(rcpt: str, settlement: Settlement, message: str) -> Suppression:
    """What is learned of an address by a bounce for which ``suppression.by_bounce`` holds; ``message`` is its id."""
    reply = Reply(settlement.code or 0, settlement.text, settlement.enhanced)
    return Suppression(rcpt, ALL, Reason.BOUNCE, evidence=str(reply), origin=message)


def suppressing(new: Sequence[Suppression]) -> str:
    """The subject of the act by which these are suppressed."""
    return f"{normal(new[0].address)} {new[0].scope}" + (" and others" if len(new) > 1 else "")


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[str, ...]:
    """The fields whose fingerprints are not the same, sorted."""
    return tuple(sorted(name for name in {*first, *second} if first.get(name) != second.get(name)))


def dated(own: Mapping[str, Any], submitted: float) -> float:
    """The moment that a message's Date names: its own where it has one, since not all of a campaign goes at once."""
    return float(own.get("dated", submitted))


def secrets_of(shared: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The sensitive parts of the data that a message is made of, to be kept with it and wiped with it."""
    return {"shared": shared, "own": own} if shared or own else None


def with_secrets(content: dict[str, Any], secrets: Mapping[str, Any] | None, part: str) -> dict[str, Any]:
    """The content with the sensitive part of its ``data`` put back, as a new value; ``part`` as in ``secrets_of``."""
    hidden = (secrets or {}).get(part)
    return {**content, "data": merge(content.get("data", {}), hidden)} if hidden else content


def attached(contents: Iterable[Mapping[str, Any]]) -> set[str]:
    """The blob ids of the attachments of these contents, a submission's shared one or a message's own."""
    return {each["blob"] for content in contents if "attachments" in content for each in content["attachments"]}


def labels(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Metadata as ``key=value`` texts, which is how a person asks for it: ``customer=7`` whether 7 or ``"7"``."""
    return tuple(
        f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
        for name, value in metadata.items()
        if value is not None
    )


def standing(states: Iterable[str]) -> str:
    """One word for a submission: the state of the recipient that is furthest behind; ``settled`` when none is kept."""
    order = list(State)
    return min((State(state) for state in states), key=order.index, default="settled")


def signature(actor: Actor) -> str:
    """Who and from where, as it stands in a timeline."""
    return f"{actor.name}@{actor.host}"


def storable(text: str) -> str:
    """The text as every database can keep it: NUL and lone surrogates are spelled out."""
    if text.isascii() and "\0" not in text:  # most often, and three times as fast
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
