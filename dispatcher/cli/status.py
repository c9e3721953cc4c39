"""``dispatcher status``: how things stand, at one look."""

from typing import TYPE_CHECKING, Any

import typer

from dispatcher.cli.exits import OUT_OF_REACH
from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import Json, document, duration, line, table, when
from dispatcher.delivery import Lane, State

if TYPE_CHECKING:
    from dispatcher.interfaces import Ledger
    from dispatcher.settings import Settings

_OUT_OF_REACH = "out of reach"
_SHOWN = (
    State.QUEUED,
    State.DEFERRED,
    State.LEASED,
    State.IN_DOUBT,
    State.SENT,
    State.BOUNCED,
    State.EXPIRED,
    State.INVALID,
)


def status(as_json: Json = False) -> None:
    """Show how things stand.

    Workers, lanes, counts by state, the oldest waiting age, relays, rejects and what is paused. Exit 3 when the broker
    is out of reach: mail is accepted all the same, and waits.
    """
    settings = settings_of_user()
    with opened_ledger(settings) as ledger:
        found = collect(settings, ledger)
    if as_json:
        document(found)
    else:
        _show(found)
    if found["broker"] == _OUT_OF_REACH:
        raise typer.Exit(OUT_OF_REACH)


def collect(settings: "Settings", ledger: "Ledger") -> dict[str, Any]:
    """All of it, as the JSON document has it."""
    from dispatcher.adapters.redis import Broker  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.runtime import broker_url, read  # noqa: PLC0415 - as above
    from dispatcher.adapters.workers import serving  # noqa: PLC0415 - as above

    url = broker_url(settings)
    workers = serving(url) if url else None
    broker = Broker(url) if url and workers is not None else None
    totals, pauses = ledger.totals(), ledger.pauses()
    stack = read(settings.data_dir)
    lanes = {
        lane.value: {
            "states": {state.value: n for state in State if (n := totals.states.get((lane, state), 0))},
            "oldest_seconds": totals.oldest.get(lane),
            "tasks": broker.depth(lane.queue) if broker else None,
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
    if broker:
        broker.close()
    return {
        "stack": None if stack is None else {name: value for name, value in stack.items() if name != "broker_url"},
        "broker": "reachable" if workers is not None else _OUT_OF_REACH if url else "none",
        "workers": workers or {},
        "accepted": totals.accepted,
        "states": {
            state.value: n for state in State if (n := sum(totals.states.get((lane, state), 0) for lane in Lane))
        },
        "scheduled": totals.scheduled,
        "rejects": totals.rejects,
        "lanes": lanes,
        "relays": relays,
        "pauses": pauses,
        "sweep_seconds_ago": ledger.ticks().get("sweep"),
    }


def _show(found: dict[str, Any]) -> None:
    stack = found["stack"]
    line(
        f"stack: pid {stack['pid']} since {when(stack['started'])}, Flower at {stack['flower']}"
        if stack
        else "stack: none runs on this data folder"
    )
    line(f"broker: {found['broker']}")
    table(("worker", "serves"), [(name, ", ".join(queues)) for name, queues in sorted(found["workers"].items())])
    columns = ("lane", *(state.value for state in _SHOWN), "oldest", "tasks")
    rows = [
        (name, *(lane["states"].get(state.value, 0) for state in _SHOWN), _age(lane["oldest_seconds"]), lane["tasks"])
        for name, lane in found["lanes"].items()
    ]
    table(columns, rows)
    table(
        ("relay", "where", "paused"),
        [(name, relay["where"], relay["paused"]) for name, relay in found["relays"].items()],
    )
    if pauses := found["pauses"]:
        table(
            ("paused", "name", "until", "reason"),
            [(pause.kind, pause.name, when(pause.until) or "lifted by hand", pause.reason) for pause in pauses],
        )
    line(f"accepted: {found['accepted']:,} · scheduled: {found['scheduled']:,} · rejects: {found['rejects']:,}")


def _age(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
