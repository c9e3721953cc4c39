"""How a campaign is shown: its check, its sums, and how far it is while it goes."""

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from dispatcher.campaign import Campaign, CampaignState, Sums
from dispatcher.cli.output import console, duration, line, note, plain, table, when
from dispatcher.delivery import State

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher

_LOOK_SECONDS = 1.0
_REMEMBERED = 30  # looks, of which the forecast is made
_OVER = CampaignState.FINISHED, CampaignState.CANCELLED, CampaignState.PAUSED


def facts(campaign: Campaign) -> dict[str, Any]:
    """As ``--json`` has it."""
    found: dict[str, Any] = plain(campaign)
    found["spec"] = campaign.spec.document()
    return found


def show_check(campaign: Campaign) -> None:
    """What a check has found, worst first."""
    checked = campaign.checked or {}
    table(
        ("result", "what", "what was seen"),
        [(each["level"], each["what"], each["text"]) for each in checked.get("findings", ())],
    )
    if checked.get("ok"):
        line(f"campaign {campaign.name} is checked; let it go with `dispatcher campaigns start {campaign.name}`")
    else:
        note(f"dispatcher: campaign {campaign.name} may not go like that; nothing was sent")


def show_one(campaign: Campaign, sums: Sums) -> None:
    """Where it stands, and what became of every row."""
    spec = campaign.spec
    table(
        ("campaign", campaign.name),
        [
            ("state", campaign.state.value),
            *([("why", campaign.reason)] if campaign.reason else []),
            ("template", spec.template),
            ("audience", f"{spec.audience}{' where ' + ' and '.join(spec.where) if spec.where else ''}"),
            ("list", spec.list),
            *[(name, getattr(spec, name)) for name in ("start", "zone", "hours", "owner") if getattr(spec, name)],
            *([("rate", ", ".join(spec.rate))] if spec.rate else []),
            ("changed", f"{when(campaign.changed_at)} by {campaign.actor}"),
            *([("started", when(campaign.started_at))] if campaign.started_at else []),
            *([("over", when(campaign.finished_at))] if campaign.finished_at else []),
            *([("forecast", left)] if (left := _forecast(campaign, sums)) else []),
        ],
    )
    if campaign.version is None and campaign.submission is None:
        return
    table(("rows", "count"), [(what, f"{number:,}") for what, number in _account(sums)])


def _account(sums: Sums) -> list[tuple[str, int]]:
    """From the source to the end of every mail; what is none is left out, but for the sums."""
    states = [(state.value, sums.states[state]) for state in State if sums.states.get(state)]
    rows = [
        ("in the source", sums.rows),
        ("- bad", -sums.bad),
        ("- doubled", -sums.doubled),
        ("= in the audience", sums.kept),
        ("- not meant by the filter", -sums.filtered),
        ("- not looked at yet", -sums.waiting),
        ("= mails", sums.expanded),
    ]
    return [(what, number) for what, number in rows if number or not what.startswith("-")] + states


def _forecast(campaign: Campaign, sums: Sums) -> str:
    """How long it takes if it goes on like that since it was started."""
    left = sums.waiting + sums.accepted - sums.settled
    if campaign.state is not CampaignState.RUNNING or not sums.settled or not left or campaign.started_at is None:
        return ""
    return f"over in {duration(left * (time.time() - campaign.started_at) / sums.settled)}, if it goes on like that"


def follow(dispatcher: "Dispatcher", name: str) -> None:
    """Until it is over or paused: a bar with a forecast on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        _draw(dispatcher, name)
        return
    said = ""
    while True:
        found, sums = dispatcher.campaigns.get(name), dispatcher.campaigns.sums(name)
        now = f"{found.state}: {sums.settled:,} of {sums.accepted + sums.waiting:,} settled"
        if now != said:
            note(f"dispatcher: campaign {name} is {now}")
            said = now
        if found.state in _OVER:
            return
        time.sleep(_LOOK_SECONDS)


def _draw(dispatcher: "Dispatcher", name: str) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - for a terminal

    seen: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
    with Progress(*columns, console=console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, left="")
        while True:
            began = time.monotonic()
            found, sums = dispatcher.campaigns.get(name), dispatcher.campaigns.sums(name)
            total = sums.accepted + sums.waiting
            seen.append((began, sums.settled))
            left = _left(seen, total)
            bar.update(task, total=total, completed=sums.settled, description=f"{name} {found.state}", left=left)
            if found.state in _OVER:
                return
            # Counting a million mails takes a second: a look must not cost more than the sending.
            time.sleep(max(_LOOK_SECONDS, 10 * (time.monotonic() - began)))


def _left(seen: "deque[tuple[float, int]]", total: int) -> str:
    """By the speed of late."""
    (first_at, first), (last_at, last) = seen[0], seen[-1]
    if last <= first:
        return ""
    rate = (last - first) / (last_at - first_at)
    return f"{rate:,.0f}/s, over in {duration((total - last) / rate)}"
