"""What ``doctor`` says about relays: whether each lets us in, and what holds it back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.finding import FAIL, OK, WARN, Finding
from dispatcher.cli.opening import opened_ledger
from dispatcher.cli.output import when
from dispatcher.errors import LedgerError

if TYPE_CHECKING:
    from dispatcher.records import Pause
    from dispatcher.settings import Settings


def relays(settings: "Settings") -> Iterator[Finding]:
    """Each of them, in the order in which they are tried; then all other brakes."""
    from dispatcher.cli.relays import tested  # noqa: PLC0415 - --help needs none of it

    table = settings.relay_table()
    if not table:
        yield Finding("relays", WARN, "none is configured: mail is accepted and waits", "set DISPATCHER_RELAY_URL")
    for name, relay in table.items():
        result = tested(settings, name)
        if not result["ok"]:
            yield Finding(f"relay {name}", FAIL, result["reason"], "see its url in the settings, and the network")
            continue
        how = ", ".join(filter(None, (result["tls"], result["auth"] and f"logged in by {result['auth']}")))
        yield Finding(f"relay {name}", OK, f"{relay.display} lets us in" + (f" ({how})" if how else ""))
    try:
        with opened_ledger(settings) as ledger:
            pauses = ledger.pauses()
    except LedgerError:  # told in the ledger's own line
        return
    yield from map(_brake, pauses)


def _brake(pause: "Pause") -> Finding:
    what = f"{pause.kind} {pause.name}"
    why = f": {pause.reason}" if pause.reason else ""
    if pause.half_open:
        return Finding(what, WARN, f"half open{why}", "one message at a time tries it; nothing to do")
    until = when(pause.until) or "it is resumed"
    who = f" by {pause.actor}" if pause.actor else ""
    return Finding(what, WARN, f"paused until {until}{who}{why}", f"`dispatcher resume {pause.name}` when it may go on")
