"""``dispatcher status``: how things stand, at one look."""

from typing import TYPE_CHECKING, Any

from dispatcher.cli.opening import opened
from dispatcher.cli.output import Json, document, duration, line, table, when
from dispatcher.delivery import Lane, State
from dispatcher.settings import Settings, load

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher

_SHOWN = (State.QUEUED, State.DEFERRED, State.LEASED, State.IN_DOUBT, State.SENT, State.BOUNCED, State.EXPIRED, State.INVALID)


def status(as_json: Json = False) -> None:
    """Show workers, lanes, counts by state, the oldest waiting age, relays, rejects and what is paused."""
    settings = load()
    with opened(settings) as dispatcher:
        found = collect(settings, dispatcher)
    if as_json:
        document(found)
    else:
        _show(found)


def collect(settings: Settings, dispatcher: "Dispatcher") -> dict[str, Any]:
    """All of it, as the JSON document has it."""
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.workers import serving  # noqa: PLC0415 - as above

    url = bootstrap.broker_url(settings)
    workers = serving(url) if url else None
    totals, pauses = dispatcher.ledger.totals(), dispatcher.ledger.pauses()
    stack = bootstrap.runtime(settings)
    lanes = {
        lane.value: {
            "states": {state.value: totals.states.get((lane, state), 0) for state in State},
            "oldest_seconds": totals.oldest.get(lane),
            "tasks": dispatcher.queue.depth(lane),
        }
        for lane in Lane
    }
    relays = {
        name: {
            "where": relay.display,
            "paused": next((p.reason for p in pauses if (p.kind, p.name) == ("relay", name)), None),
        }
        for name, relay in settings.relay_table().items()
    }
    return {
        "stack": None if stack is None else {name: value for name, value in stack.items() if name != "broker_url"},
        "broker": "reachable" if workers is not None else "out of reach" if url else "none",
        "workers": workers or {},
        "accepted": totals.accepted,
        "states": {state.value: sum(lane["states"][state.value] for lane in lanes.values()) for state in State},
        "scheduled": totals.scheduled,
        "rejects": totals.rejects,
        "lanes": lanes,
        "relays": relays,
        "pauses": pauses,
        "sweep_seconds_ago": dispatcher.ledger.ticks().get("sweep"),
    }


def _show(found: dict[str, Any]) -> None:
    stack = found["stack"]
    line(f"stack: pid {stack['pid']} since {when(stack['started'])}, Flower at {stack['flower']}" if stack else "stack: none runs on this data folder")
    line(f"broker: {found['broker']}")
    table(("worker", "serves"), [(name, ", ".join(queues)) for name, queues in sorted(found["workers"].items())])
    columns = ("lane", *(state.value for state in _SHOWN), "oldest", "tasks")
    rows = [
        (name, *(lane["states"][state.value] for state in _SHOWN), _age(lane["oldest_seconds"]), lane["tasks"])
        for name, lane in found["lanes"].items()
    ]
    table(columns, rows)
    table(("relay", "where", "paused"), [(name, relay["where"], relay["paused"]) for name, relay in found["relays"].items()])
    table(
        ("paused", "name", "until", "reason"),
        [(pause.kind, pause.name, when(pause.until) or "lifted by hand", pause.reason) for pause in found["pauses"]],
    )
    line(f"accepted: {found['accepted']:,} · scheduled: {found['scheduled']:,} · rejects: {found['rejects']:,}")


def _age(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
