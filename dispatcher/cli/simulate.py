"""``dispatcher automations simulate``: what would be sent when."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.automation_files import Placed, read_files, refuse, values
from dispatcher.cli.automation_view import say_lines
from dispatcher.cli.opening import moment, opened, read_text, settings_of_user
from dispatcher.cli.output import Json, note
from dispatcher.errors import SubmissionError

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher
    from dispatcher.emitted import Event
    from dispatcher.interfaces import Ledger
    from dispatcher.simulation import Simulation

EXAMPLE = "Example: dispatcher automations simulate --events events.jsonl --until 2027-01-31"


def simulate(
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Up to when.")],
    events: Annotated[
        str | None, typer.Option("--events", metavar="FILE", help="JSON Lines: event, data, and at, when it happens.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From when on; the first event's time by default.")
    ] = None,
    paths: Annotated[
        list[str] | None, typer.Option("--file", metavar="FILE", help="Go by these files; by what is loaded otherwise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what would be sent when. Nothing is sent, and nothing is kept."""
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.secret_keys import secret_keys  # noqa: PLC0415 - as above
    from dispatcher.simulation import Simulation  # noqa: PLC0415 - as above

    settings, rows = settings_of_user(), list(_events(events)) if events else []
    start = moment(begin, "--from") if begin else min((at for at, _ in rows), default=moment("+0s", "--from"))
    policy = bootstrap.policy(settings, secret_keys(settings))
    with opened(settings) as dispatcher:
        placed = read_files(paths) if paths else []
        documents = values(placed) if placed else _loaded(dispatcher.ledger)
        simulation = Simulation(dispatcher.ledger, bootstrap.templates(settings).load, policy, start)
        _load_into(simulation, placed, documents, dispatcher)
        faults = simulation.run(rows, moment(until, "--until"))
        found = simulation.lines()
    for event, error in faults:
        note(f"dispatcher: {event.event}{f' {event.id}' if event.id else ''}: {error}")
    say_lines(found, as_json)
    raise typer.Exit(1 if faults else 0)


def _load_into(simulation: "Simulation", placed: list[Placed], documents: list[Any], dispatcher: "Dispatcher") -> None:
    if placed:
        refuse(placed, dispatcher.automations.check(documents))
        kinds = {each["event"] for each in documents if "event" in each}
        known = dispatcher.ledger.automations.event_types().items()
        documents = [each for name, each in known if name not in kinds] + documents
    simulation.load(documents)


def _loaded(ledger: "Ledger") -> list[Any]:
    """What is loaded, as files would have it."""
    store = ledger.automations
    kinds, documents = list(store.event_types().values()), store.documents()
    current = [documents[each.id, each.version] for each in store.listed() if not each.paused]
    return kinds + [
        {k: v for k, v in each.items() if k != "person" or "date" not in each["trigger"]} for each in current
    ]


def _events(path: str) -> Iterator[tuple[float, "Event"]]:
    from dispatcher.emitted import Event  # noqa: PLC0415 - as above

    for n, text in enumerate(read_text(path, "--events").split("\n"), 1):
        if not text.strip():
            continue
        try:
            made = Event.parse(json.loads(text))
        except SubmissionError as error:
            raise SubmissionError(f"{path}:{n}", str(error)) from None
        except ValueError:
            raise SubmissionError(f"{path}:{n}", "is no JSON") from None
        if made.at is None:
            raise SubmissionError(f"{path}:{n}", "at: required here: when it happens")
        yield made.moment(0.0), made
