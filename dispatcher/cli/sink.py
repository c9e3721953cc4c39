"""``dispatcher sink``: an SMTP server that records what it is given, for trying things out."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.output import Json, count, document, line, note
from dispatcher.errors import ConfigurationError

if TYPE_CHECKING:
    from dispatcher.servers.inbox import Inbox
    from dispatcher.servers.sink import Sink


def sink(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 2525,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="ADDRESS", help="Where to listen. Beyond loopback anybody may send, and read the inbox."
        ),
    ] = "127.0.0.1",
    web: Annotated[
        int | None,
        typer.Option("--web", metavar="PORT", min=0, max=65535, help="Show the mails in a browser, on this port."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Append every mail to this file, as JSON Lines.")
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option("--script", metavar="FILE", help="Refuse, defer, stall and hang up as this TOML says."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take mail and deliver it nowhere, for trying things out.

    Takes whatever it is given, from anybody who reaches it: by default it listens on 127.0.0.1 only. Runs until Ctrl-C;
    set DISPATCHER_RELAY_URL to the URL that it prints. With --web an inbox shows what came, from FILE also what came
    before. With --script it is a bad relay, for tests of what happens then: see docs/fault-sink.md.
    """
    from dispatcher.adapters.supervisor import LOOK_SECONDS, StopRequests  # noqa: PLC0415 - --help needs none of it

    with StopRequests() as requests, _recorded(record, web is not None) as path:
        server = _listening(host, port, path, script)
        inbox = _shown(host, web, path, server.url) if web is not None and path is not None else None
        facts = {"url": server.url, "port": server.port, "record": str(record) if record else None}
        if as_json:
            document(facts | {"inbox": inbox.url if inbox else None})
        else:
            line(server.url)
            if inbox:
                line(f"inbox at {inbox.url}")
        sys.stdout.flush()
        while not requests.count:
            time.sleep(LOOK_SECONDS)
        if inbox:
            inbox.stop()
        server.stop()
    note(f"dispatcher: sink stopped after {server.recording.count:,} mails")
    for number, struck in enumerate(server.struck, 1):
        note(f"dispatcher: rule {number} struck {count(struck, 'time')}")


@contextmanager
def _recorded(record: Path | None, shown: bool) -> Iterator[Path | None]:
    """The file to record to: the user's, or a passing one for the inbox to read; None: memory."""
    if record is not None or not shown:
        yield record
        return
    with tempfile.TemporaryDirectory(prefix="dispatcher-sink-") as folder:
        yield Path(folder) / "mails.jsonl"


def _listening(host: str, port: int, path: Path | None, script: Path | None) -> "Sink":
    from dispatcher.servers.sink import Script, Sink  # noqa: PLC0415 - --help needs none of it

    faults = Script.read(script) if script else None
    try:
        server = Sink(host=host, port=port, record=path, script=faults)
    except BlockingIOError:
        raise ConfigurationError("--record", f"another sink writes to {path}") from None
    except OSError as error:
        raise ConfigurationError("--record", f"cannot write {path}: {error.strerror}") from None
    try:
        server.start()
    except OSError as error:
        raise ConfigurationError("--port", f"cannot listen on {host} port {port}: {error.strerror}") from None
    return server


def _shown(host: str, port: int, path: Path, relay_url: str) -> "Inbox":
    from dispatcher.servers.inbox import Inbox  # noqa: PLC0415 - --help needs none of it

    inbox = Inbox(path, host=host, port=port, relay_url=relay_url)
    try:
        inbox.start()
    except OSError as error:
        raise ConfigurationError("--web", f"cannot listen on {host} port {port}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError("--record", f"{path}: {error}") from None
    return inbox
