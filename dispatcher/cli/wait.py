"""``dispatcher wait``: until the stack is ready, until mails are settled, or until nothing is under way."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import Json, document, note
from dispatcher.delivery import LIVE, Lane, Selector, State

if TYPE_CHECKING:
    from dispatcher.interfaces import Ledger
    from dispatcher.settings import Settings

_LOOK_SECONDS = 0.2
_NAMED = 20
_SHOWN = 10


def wait(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of submissions, messages or deliveries, or keys.")
    ] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Until the stack runs and every lane is served.")] = False,
    idle: Annotated[bool, typer.Option("--idle", help="Until no delivery is under way.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Seconds; past them, exit 3.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait until the stack is ready, mails are settled, or all is idle.

    What is scheduled for later, and what is held in doubt, does not count for --idle; the latter is named, exit 1.
    With ids: exit 0 only if every recipient's mail was sent.
    """
    if sum((bool(ids), ready, idle)) != 1:
        raise typer.BadParameter("name ids, or --ready, or --idle")
    settings = settings_of_user()
    until = None if timeout is None else time.monotonic() + timeout
    if ready:
        from dispatcher.adapters.runtime import writable  # noqa: PLC0415 - --help needs none of it

        writable(settings)  # a folder that no stack can run on will never be ready
        patiently(lambda: _ready(settings), until, "the stack is not ready", pause=0.1)
        document({"ready": True}) if as_json else None
        return
    with opened_ledger(settings) as ledger:
        code = _idle(ledger, until, as_json) if idle else settled(ledger, tuple(ids or ()), until, as_json)
    raise typer.Exit(code)


def patiently(done: Callable[[], bool], until: float | None, late: str, *, pause: float = _LOOK_SECONDS) -> None:
    """Ask until it is so. Ends the command with exit code 3 when the time runs out (``until``: monotonic)."""
    while not done():
        if until is not None and time.monotonic() >= until:
            note(f"dispatcher: {late}: time ran out")
            raise typer.Exit(3)
        time.sleep(pause)


def settled(ledger: "Ledger", ids: tuple[str, ...], until: float | None, as_json: bool) -> int:
    """Wait until no delivery of these is live; 0 only if all of them were sent."""
    live = Selector(ids=ids, states=tuple(sorted(LIVE)), limit=1)
    patiently(lambda: next(ledger.find(live), None) is None, until, "not settled yet")
    states: dict[State, int] = {}
    for found in ledger.find(Selector(ids=ids)):
        states[found.state] = states.get(found.state, 0) + 1
    if as_json:
        document({"states": states})
    else:
        note(f"dispatcher: {', '.join(f'{number:,} {state}' for state, number in sorted(states.items()))}")
    return 0 if set(states) <= {State.SENT} else 1


def _ready(settings: "Settings") -> bool:
    """A worker answers for every lane, for intake and for control."""
    from dispatcher.adapters.celery import QUEUES  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.redis import checked  # noqa: PLC0415 - as above
    from dispatcher.adapters.runtime import broker_address  # noqa: PLC0415 - as above
    from dispatcher.adapters.workers import serving  # noqa: PLC0415 - as above

    address = broker_address(settings)
    if address is None:
        return False
    workers = serving(address, 0.3)
    if workers is None:
        checked(address)  # a broker that refuses us will never be ready
    return {queue for queues in (workers or {}).values() for queue in queues} >= set(QUEUES)


def _idle(ledger: "Ledger", until: float | None, as_json: bool) -> int:
    """Wait until nothing is under way; 1 when something is held in doubt."""
    patiently(lambda: under_way(ledger) == 0, until, "deliveries are under way")
    held = list(ledger.find(Selector(states=(State.IN_DOUBT,), limit=_NAMED)))
    if as_json:
        document({"idle": True, "in_doubt": [record.id for record in held]})
    for record in held[:_SHOWN]:
        note(f"dispatcher: in doubt: {record.id} to {record.rcpt}")
    if len(held) > _SHOWN:
        note("dispatcher: and more: `dispatcher messages list --state in_doubt`")
    if held:
        note("dispatcher: decide: `dispatcher messages resolve --sent|--bounced|--resend|--drop ID ...`")
    return 1 if held else 0


def under_way(ledger: "Ledger") -> int:
    """How many deliveries are live: due, deferred or leased. Not what is scheduled, nor what is held in doubt."""
    totals = ledger.totals()
    states = {state: sum(totals.states.get((lane, state), 0) for lane in Lane) for state in LIVE}
    if moving := states[State.LEASED] + states[State.DEFERRED]:
        return moving
    if due := states[State.QUEUED] - totals.scheduled:
        return due
    # What waits for later was scheduled, or was put back since its relay was in trouble: then its timeline says so.
    waiting = ledger.find(Selector(states=(State.QUEUED,))) if states[State.QUEUED] else iter(())
    return sum(1 for record in waiting if record.history)
