"""``dispatcher status``: how things stand, at one look."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import typer

from dispatcher.cli.exits import OUT_OF_REACH
from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import Json, document, duration, line, note, table, when
from dispatcher.delivery import Lane, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dispatcher.automation import Inside
    from dispatcher.broker import BrokerAddress
    from dispatcher.interfaces import Ledger
    from dispatcher.rate import Usage
    from dispatcher.records import Pause, Totals
    from dispatcher.relay import Relay
    from dispatcher.schedule import Standing
    from dispatcher.settings import Settings

_OUT_OF_REACH = "out of reach"
_LATELY = 86400.0  # seconds in which what has failed is told
_SHOWN = (
    State.QUEUED,
    State.DEFERRED,
    State.LEASED,
    State.IN_DOUBT,
    State.SENT,
    State.BOUNCED,
    State.EXPIRED,
    State.INVALID,
    State.SUPPRESSED,
)
_ALWAYS = (State.QUEUED, State.DEFERRED, State.SENT, State.BOUNCED)


def status(as_json: Json = False) -> None:
    """Show how things stand.

    Workers, lanes, counts by state, the oldest waiting age, relays with their limits, schedules, rejects and what is
    paused. Exit 3 when the broker is out of reach: mail is accepted all the same, and waits. --json: stack, broker,
    workers, accepted, states, scheduled, rejects, suppressions, schedules (count, paused; due: occurrences to be fired,
    due_since: epoch; failed: within a day, last_failed: name and why; over: names), lanes.NAME (states, oldest_seconds,
    tasks, paused), relays.NAME (where, state: ok, paused, half_open or slowed; paused and reason: why; until: epoch,
    null until resumed; actor: who, null for the dispatcher itself; rate: window and used; connections: open, max,
    learned), pauses, stream, beat_seconds_ago, sweep_seconds_ago. What only the broker knows is null while it is out
    of reach.
    """
    settings = settings_of_user()
    with opened_ledger(settings) as ledger:
        found = collect(settings, ledger)
    if as_json:
        document(found)
    else:
        _show(found)
    if found["broker"] == _OUT_OF_REACH:
        note(f"dispatcher: {_fault(settings)}")
        raise typer.Exit(OUT_OF_REACH)


def collect(settings: "Settings", ledger: "Ledger") -> dict[str, Any]:
    """All of it, as the JSON document has it."""
    from dispatcher.adapters.runtime import broker_address, read  # noqa: PLC0415 - --help needs none of it

    address = broker_address(settings)
    with ThreadPoolExecutor(1) as aside:  # workers have most of a second to answer; meanwhile the others are asked
        answer = aside.submit(_workers, address)
        totals, pauses, ticks = ledger.totals(), ledger.pauses(), ledger.ticks()
        suppressions, standing = ledger.suppressions.count(), ledger.schedules.standing(_LATELY)
        inside = ledger.automations.standing()
        depths = _depths(address)
        usage = _usage(settings) if address else {}
        workers = answer.result()
    if workers is None:
        depths, usage = {}, {}  # a process that is cut off knows its own share only
    stack = read(settings.data_dir)
    return {
        "stack": None if stack is None else {name: value for name, value in stack.items() if name != "broker_url"},
        "broker": "reachable" if workers is not None else _OUT_OF_REACH if address else "none",
        "workers": workers or {},
        "accepted": totals.accepted,
        "states": {
            state.value: n for state in State if (n := sum(totals.states.get((lane, state), 0) for lane in Lane))
        },
        "scheduled": totals.scheduled,
        "rejects": totals.rejects,
        "suppressions": suppressions,
        "schedules": standing,
        "automations": inside,
        "lanes": {lane.value: _lane(lane, totals, pauses, depths.get(lane.queue)) for lane in Lane},
        "relays": {name: _relay(relay, pauses, usage.get(name)) for name, relay in settings.relay_table().items()},
        "pauses": pauses,
        "stream": depths.get("stream"),
        "beat_seconds_ago": ticks.get("beat"),
        "sweep_seconds_ago": ticks.get("sweep"),
    }


def _workers(address: "BrokerAddress | None") -> dict[str, tuple[str, ...]] | None:
    """None when the broker is out of reach, or there is none."""
    from dispatcher.adapters.workers import serving  # noqa: PLC0415 - --help needs none of it

    return serving(address) if address else None


def _fault(settings: "Settings") -> str:
    from dispatcher.adapters.runtime import broker_address  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.workers import why  # noqa: PLC0415 - as above

    address = broker_address(settings)
    return why(address) if address else "the broker has just stopped"


def _depths(address: "BrokerAddress | None") -> dict[str, int | None]:
    """What waits on the broker: tasks by their queue, and what was handed over and is not in the ledger yet."""
    from dispatcher.adapters.redis import Broker  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.stream import waiting  # noqa: PLC0415 - as above

    if address is None:
        return {}
    broker = Broker(address)
    try:
        return {"stream": waiting(broker), **{lane.queue: broker.depth(lane.queue) for lane in Lane}}
    finally:
        broker.close()


def _usage(settings: "Settings") -> "Mapping[str, Usage]":
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it

    limits = bootstrap.limiter(settings)
    try:
        return limits.usage()
    finally:
        limits.close()


def _lane(lane: Lane, totals: "Totals", pauses: "Sequence[Pause]", tasks: int | None) -> dict[str, Any]:
    pause = _pause(pauses, "lane", lane.value)
    return {
        "states": {state.value: n for state in State if (n := totals.states.get((lane, state), 0))},
        "oldest_seconds": totals.oldest.get(lane),
        "tasks": tasks,
        "paused": _why(pause),
    }


def _relay(relay: "Relay", pauses: "Sequence[Pause]", usage: "Usage | None") -> dict[str, Any]:
    pause = _pause(pauses, "relay", relay.name)
    if pause is not None:
        state, reason = "half_open" if pause.half_open else "paused", _why(pause)
    elif usage is not None and usage.learned:
        state, reason = "slowed", f"it refuses more than {usage.max_connections} connections"
    else:
        state, reason = "ok", None
    return {
        "where": relay.display,
        "state": state,
        "paused": _why(pause),
        "reason": reason,
        "until": None if pause is None else pause.until,
        "actor": None if pause is None else pause.actor,
        "rate": usage and [{"window": window, "used": used} for window, used in usage.windows],
        "connections": usage and {"open": usage.connections, "max": usage.max_connections, "learned": usage.learned},
    }


def _pause(pauses: "Sequence[Pause]", kind: str, name: str) -> "Pause | None":
    return next((pause for pause in pauses if (pause.kind, pause.name) == (kind, name)), None)


def _why(pause: "Pause | None") -> str | None:
    """Never empty while it is paused."""
    return None if pause is None else pause.reason or "no reason was given"


def _show(found: dict[str, Any]) -> None:
    stack = found["stack"]
    flower = f"Flower at {stack['flower']}" if stack and stack["flower"] else "without Flower"
    line(
        f"stack: pid {stack['pid']} since {when(stack['started'])}, {flower}"
        if stack
        else "stack: none runs on this data folder"
    )
    waiting = "" if found["stream"] is None else f" · handed over: {found['stream']:,} waiting"
    beat, sweep = _ago(found["beat_seconds_ago"]), _ago(found["sweep_seconds_ago"])
    line(f"broker: {found['broker']}{waiting} · beat: {beat} · sweep: {sweep}")
    workers = [(name, ", ".join(queues)) for name, queues in sorted(found["workers"].items())]
    if workers:
        table(("worker", "serves"), workers, head=True)
    elif found["broker"] == "reachable":
        line("workers: none answers")
    states = _columns(found["lanes"])
    table(
        ("lane", *states, "oldest", "tasks"),
        [
            (name, *(lane["states"].get(state, 0) for state in states), _age(lane["oldest_seconds"]), lane["tasks"])
            for name, lane in found["lanes"].items()
        ],
        head=True,
    )
    if relays := found["relays"]:
        table(
            ("relay", "where", "state", "rate", "connections"),
            [_relay_row(name, relay) for name, relay in relays.items()],
            head=True,
        )
    if pauses := found["pauses"]:
        table(("paused", "name", "until", "by", "why"), [_pause_row(pause) for pause in pauses], head=True)
    if found["schedules"].count:
        line(_schedules(found["schedules"]))
    if found["automations"].count:
        line(_automations(found["automations"]))
    numbers = ("accepted", "scheduled", "rejects", "suppressions")
    line(" · ".join(f"{name}: {found[name]:,}" for name in numbers))


def _schedules(found: "Standing") -> str:
    since = f" since {when(found.due_since)}" if found.due_since is not None else ""
    parts = [f"schedules: {found.count:,}", f"{found.paused:,} paused", f"{found.due:,} due{since}"]
    parts.append(f"{found.failed:,} failed within a day")
    return " · ".join([*parts, *([f"{len(found.over):,} over"] if found.over else [])])


def _automations(found: "Inside") -> str:
    since = f" · due since {when(found.due_since)}" if found.due_since is not None else ""
    numbers = f"{len(found.paused):,} paused · {found.inside:,} inside · {found.failed:,} failed"
    return f"automations: {found.count:,} · {numbers}{since}"


def _columns(lanes: dict[str, Any]) -> list[str]:
    """The states to show: in a pipe all of them, on a terminal what is rare only where it occurs."""
    every = not sys.stdout.isatty()
    used = {state for lane in lanes.values() for state in lane["states"]}
    return [state.value for state in _SHOWN if every or state in _ALWAYS or state.value in used]


def _relay_row(name: str, relay: dict[str, Any]) -> tuple[str, ...]:
    rate = "\n".join(f"{window['used']:,} of {window['window']}" for window in relay["rate"] or ())
    return name, relay["where"], relay["state"].replace("_", " "), rate, _connections(relay["connections"])


def _pause_row(pause: "Pause") -> tuple[str, ...]:
    until = "it is tried" if pause.half_open else when(pause.until) or "it is resumed"
    return pause.kind, pause.name, until, pause.actor or "itself", pause.reason


def _connections(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    most = "" if found["max"] is None else f" of {found['max']}{' learned' if found['learned'] else ''}"
    return f"{found['open']}{most}"


def _age(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"
