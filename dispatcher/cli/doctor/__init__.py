"""``dispatcher doctor``: looks at every part, and says what to do about what is not well. One module for each part."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from dispatcher.cli.doctor.attachments import attachments
from dispatcher.cli.doctor.automations import automations
from dispatcher.cli.doctor.broker import broker
from dispatcher.cli.doctor.finding import FAIL, OK, WARN, Finding
from dispatcher.cli.doctor.host import data_folder, journals, settings
from dispatcher.cli.doctor.ledger import ledger
from dispatcher.cli.doctor.links import links
from dispatcher.cli.doctor.relays import relays
from dispatcher.cli.doctor.schedules import schedules
from dispatcher.cli.doctor.templates import templates
from dispatcher.cli.opening import settings_of_user
from dispatcher.cli.output import Json, document, table
from dispatcher.errors import DispatcherError

if TYPE_CHECKING:
    from dispatcher.settings import Settings

__all__ = ["FAIL", "OK", "WARN", "Finding", "doctor"]

# What is looked at, by whom, and what helps when it cannot even be looked at.
_PARTS: "tuple[tuple[str, Callable[[Settings], Iterator[Finding]], str], ...]" = (
    ("settings", settings, "correct it in dispatcher.toml or the environment"),
    ("data folder", data_folder, "make it writable, or name another one in DISPATCHER_DATA_DIR"),
    ("journals", journals, "name a folder on a local disk in DISPATCHER_DATA_DIR"),
    ("ledger", ledger, "see DISPATCHER_LEDGER_URL; `dispatcher db upgrade` makes or migrates the tables"),
    ("schedules", schedules, "see DISPATCHER_LEDGER_URL"),
    ("automations", automations, "see DISPATCHER_LEDGER_URL"),
    ("broker", broker, "see DISPATCHER_BROKER_URL"),
    ("templates", templates, "see DISPATCHER_TEMPLATES_DIR"),
    ("relays", relays, "see DISPATCHER_RELAY_URL"),
    ("attachments", attachments, "see DISPATCHER_ATTACHMENTS_DIRS"),
    ("links", links, "see DISPATCHER_PUBLIC_URL and DISPATCHER_SECRET_KEYS"),
)


def doctor(as_json: Json = False) -> None:
    """Check every part, and say what to do.

    Settings, data folder, journals, ledger, clocks, beat, schedules, automations, broker, workers, templates, relays,
    attachments and links. Each line is ok, warn or fail. Exit 0 if all is well, 1 for a warning, 2 for a failure.
    """
    found = list(findings())
    if as_json:
        document(found)
    else:
        table(("what", "result", "found", "what to do"), [(f.what, f.level, f.found, f.advice) for f in found])
    raise typer.Exit(max((OK, WARN, FAIL).index(finding.level) for finding in found))


def findings() -> Iterator[Finding]:
    """All of it, part by part; what one part stumbles over is a finding too."""
    try:
        found = settings_of_user()
    except DispatcherError as error:
        yield Finding("settings", FAIL, str(error), _PARTS[0][2])
        return
    for what, look, advice in _PARTS:
        try:
            yield from look(found)
        except DispatcherError as error:
            yield Finding(what, FAIL, str(error), advice)
