"""``dispatcher pause`` and ``dispatcher resume``: the brakes of a relay, a lane or a submission."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.campaign import CampaignState
from dispatcher.cli.opening import actor, duration_of, opened_ledger, settings_of_user
from dispatcher.cli.output import Json, Reason, count, document, duration, line, note, plain, when
from dispatcher.delivery import WAITING, Lane, Selector, State
from dispatcher.errors import ConfigurationError, NotFound
from dispatcher.names import suggested
from dispatcher.routing import choose

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dispatcher.interfaces import Ledger
    from dispatcher.records import Pause

_LONGEST = 10 * 366 * 86400.0
Name = Annotated[
    str,
    typer.Argument(
        metavar="RELAY|LANE|SUBMISSION",
        help="A relay of the settings; transactional or bulk (also mail.bulk); a submission's id or key.",
    ),
]
For = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="How long, such as 30m or 2h; without it until resumed.")
]


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is paused or resumed: ``kind`` is relay, lane or submission."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def deliveries(self, *states: State) -> Selector:
        """All of it in these states; of a relay, what asks for it."""
        if self.kind == "relay":
            return Selector(relay=self.name, states=states)
        if self.kind == "lane":
            return Selector(lane=Lane(self.name), states=states)
        return Selector(ids=(self.name,), states=states)


def pause(name: Name, length: For = None, reason: Reason = "", as_json: Json = False) -> None:
    """Stop sending over a relay, in a lane, or of a submission, at once and on all machines.

    What waits stays and spends no attempt; mail that is being sent at this moment is finished. While a relay is paused,
    mail that names no relay goes over the next one.
    """
    seconds = None if length is None else _seconds(length)
    relays = tuple(settings_of_user().relay_table())
    with opened_ledger() as ledger:
        before = ledger.pauses()
        subject = _subject(ledger, relays, before, name, "pause")
        made = ledger.pause(subject.kind, subject.name, seconds, reason, actor(reason))
        waiting = ledger.count(subject.deliveries(*WAITING))
        leased = ledger.count(subject.deliveries(State.LEASED))
    following = _following(subject, relays, before)
    if as_json:
        document({**plain(made), "waiting": waiting, "leased": leased, "next_relay": following})
        return
    for pause in before:
        if (pause.kind, pause.name) == (subject.kind, subject.name) and pause.actor:
            note(f"dispatcher: this replaces the pause {_until(pause)} by {pause.actor}: {pause.reason or 'no reason'}")
    line(f"{subject} is paused {_until(made)}; {_number(subject, waiting, 'waits', 'wait')}")
    if subject.kind == "relay":
        line(f"mail that names no relay {f'goes over {following}' if following else 'waits: no other relay is open'}")
    if leased:
        line(f"{_number(subject, leased, 'is', 'are')} with a worker at this moment")


def resume(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Lift a pause, whoever has set it. Exit 1 if there was none."""
    relays = tuple(settings_of_user().relay_table())
    with opened_ledger() as ledger:
        subject = _subject(ledger, relays, ledger.pauses(), name, "resume")
        lifted = ledger.resume(subject.kind, subject.name, actor(reason))
        waiting = ledger.count(subject.deliveries(*WAITING))
    if as_json:
        document({"kind": subject.kind, "name": subject.name, "resumed": lifted, "waiting": waiting})
    elif lifted:
        line(f"{subject} is resumed; {_number(subject, waiting, 'goes', 'go')} out when due")
    else:
        note(f"dispatcher: {subject} was not paused; nothing was changed")
    raise typer.Exit(0 if lifted else 1)


def _seconds(text: str) -> float:
    try:
        found = duration_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None
    if not 0 < found <= _LONGEST:
        raise typer.BadParameter(
            f"{text!r} is not more than nothing and less than ten years; without --for it lasts until resumed",
            param_hint="--for",
        )
    return found


def _subject(ledger: "Ledger", relays: "Collection[str]", pauses: "Sequence[Pause]", name: str, verb: str) -> _Subject:
    """What the name stands for; a pause of a relay that is in the settings no more counts too. Raises NotFound,
    and ConfigurationError for a key that several producers use, or for a campaign's mail."""
    held = [pause.name for pause in pauses if pause.kind == "relay"]
    if name in relays or name in held:
        return _Subject("relay", name)
    lanes = {text: lane for lane in Lane for text in (lane.value, lane.queue)}
    if name in lanes:
        return _Subject("lane", lanes[name].value)
    try:
        found = ledger.submission(name)
    except NotFound:
        _refuse_campaign(ledger, name, verb)  # whose mails are not there yet
        raise NotFound(_unknown(name, [*relays, *held, *lanes])) from None
    if ledger.count(Selector(ids=(name,))) > sum(found.states.values()):
        raise ConfigurationError(name, f"is the key of several submissions; see `dispatcher messages list {name}`")
    _refuse_campaign(ledger, found.id, verb)
    return _Subject("submission", found.id)


def _refuse_campaign(ledger: "Ledger", submission: str, verb: str) -> None:
    """A campaign that is not over holds its submission itself: behind its back it would say that it is paused, and
    send. Raises ConfigurationError."""
    for campaign in ledger.campaigns.listed(CampaignState.SCHEDULED, CampaignState.RUNNING, CampaignState.PAUSED):
        if campaign.submission == submission:
            does = f"`dispatcher campaigns {verb} {campaign.name}`"
            raise ConfigurationError(submission, f"is the mail of campaign {campaign.name}, so use {does}")


def _unknown(name: str, names: list[str]) -> str:
    hint = suggested(name, names, f"relays and lanes are {', '.join(names)}")
    return f"{name[:100]!r} is no relay, no lane, and no id or key of a submission; {hint}"


def _following(subject: _Subject, relays: "Sequence[str]", before: "Sequence[Pause]") -> str | None:
    """The relay that takes over; None when there is none, or no relay is paused."""
    if subject.kind != "relay":
        return None
    return choose(None, relays, {subject.name, *(pause.name for pause in before if pause.kind == "relay")})


def _until(made: "Pause") -> str:
    if made.until is None:
        return "until it is resumed"
    return f"until {when(made.until)} ({duration(made.until - made.since)})"


def _number(subject: _Subject, number: int, one: str, more: str) -> str:
    """``1 delivery waits``, ``2 deliveries wait``; of a relay, those that ask for it."""
    asking = "" if subject.kind != "relay" else " that asks for it" if number == 1 else " that ask for it"
    return f"{count(number, 'delivery')}{asking} {one if number == 1 else more}"
