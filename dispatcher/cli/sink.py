"""``dispatcher sink``: an SMTP server that records what it is given, for trying things out."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from dispatcher.cli.output import Json, document, line, note
from dispatcher.errors import ConfigurationError


def sink(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 2525,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Append every mail to this file, as JSON Lines.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take mail and deliver it nowhere, for trying things out.

    Listens on 127.0.0.1 until Ctrl-C; set DISPATCHER_RELAY_URL to the URL that it prints.
    """
    from dispatcher.adapters.supervisor import LOOK_SECONDS, StopRequests  # noqa: PLC0415 - --help needs none of it
    from dispatcher.servers.sink import Sink  # noqa: PLC0415 - as above

    try:
        server = Sink(port=port, record=record)
    except OSError as error:
        raise ConfigurationError("--record", f"cannot write {record}: {error.strerror}") from None
    try:
        server.start()
    except OSError as error:
        raise ConfigurationError("--port", f"cannot listen on {port}: {error.strerror}") from None
    with StopRequests() as requests:
        if as_json:
            document({"url": server.url, "port": server.port, "record": str(record) if record else None})
        else:
            line(server.url)
        sys.stdout.flush()
        while not requests.count:
            time.sleep(LOOK_SECONDS)
    server.stop()
    note(f"dispatcher: sink stopped after {len(server.received()):,} mails")
