"""The command line: ``dispatcher --help``. One module for each command or group; the exit codes are in ``exits``."""

import gc
import sys
from typing import Annotated

import typer

from dispatcher import __version__
from dispatcher.cli import (
    acts,
    audiences,
    automations,
    broker,
    campaigns,
    db,
    demo,
    doctor,
    events,
    messages,
    pages,
    pause,
    rejects,
    relays,
    reports,
    schedules,
    send,
    sink,
    status,
    submit,
    suppressions,
    templates,
    up,
    verify,
    wait,
)
from dispatcher.cli.exits import INTERRUPTED, told
from dispatcher.errors import DispatcherError

_COLLECT = 50_000, 20, 100  # a third of a command's start goes into looking for garbage among what is imported
app = typer.Typer(
    name="dispatcher",
    help="A durable mail dispatcher: accepts mail into a ledger, sends it through your relays, answers for every "
    "recipient.\n\nSettings come from dispatcher.toml and from DISPATCHER_* in the environment. Exit codes: 0 done, "
    "1 done but some were rejected or not sent, 2 usage or configuration, 3 a service is out of reach or time ran out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("demo", epilog="Example: dispatcher demo --keep")(demo.demo)
app.command("up", epilog="Example: DISPATCHER_RELAY_URL=smtp://user:pass@mail.example.com:587 dispatcher up")(up.up)
app.command("send", epilog=send.EXAMPLE)(send.send)
app.command("submit", epilog="Example: dispatcher submit orders.jsonl --rejects bad.jsonl")(submit.submit)
app.command("status", epilog="Example: dispatcher status --json")(status.status)
app.command("wait", epilog="Example: dispatcher wait --idle --timeout 600")(wait.wait)
app.command("verify", epilog="Example: dispatcher verify --sink mails.jsonl")(verify.verify)
app.command("pause", epilog="Example: dispatcher pause bulk --for 2h --reason 'wrong price in the newsletter'")(
    pause.pause
)
app.command("resume", epilog="Example: dispatcher resume bulk")(pause.resume)
app.command("acts", epilog="Example: dispatcher acts --since 2d")(acts.acts)
app.add_typer(messages.app, name="messages")
app.add_typer(campaigns.app, name="campaigns")
app.add_typer(schedules.app, name="schedules")
app.add_typer(automations.app, name="automations")
app.add_typer(events.app, name="events")
app.add_typer(reports.app, name="reports")
app.add_typer(rejects.app, name="rejects")
app.add_typer(suppressions.app, name="suppressions")
app.add_typer(templates.app, name="templates")
app.add_typer(audiences.app, name="audiences")
app.add_typer(relays.app, name="relays")
app.command("pages", epilog="Example: DISPATCHER_PUBLIC_URL=https://mail.example.com dispatcher pages")(pages.pages)
app.command("doctor", epilog="Example: dispatcher doctor")(doctor.doctor)
app.add_typer(db.app, name="db")
app.command("broker-url", epilog="Example: celery -b $(dispatcher broker-url) inspect ping")(broker.broker_url)
app.command("sink", epilog="Example: dispatcher sink --port 2525 --record mails.jsonl")(sink.sink)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dispatcher {__version__}")  # noqa: T201 - what was asked for
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run a command. What is wrong with the input or the surroundings is one line on stderr; a bug has a traceback."""
    gc.set_threshold(*_COLLECT)
    try:
        app()
    except DispatcherError as error:
        sys.exit(told(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
