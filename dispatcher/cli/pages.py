"""``dispatcher pages``: the pages that links in mails lead to."""

import errno
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import Json, document, line, note
from dispatcher.errors import ConfigurationError

if TYPE_CHECKING:
    import socket

    from dispatcher.settings import Settings

_AGAIN_SECONDS = 5.0


def pages(
    wait: Annotated[
        bool, typer.Option("--wait", help="Where another program listens there, wait until it does not.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve the pages that links in mails lead to, such as the one to unsubscribe.

    Listens where [pages] listen says, on 127.0.0.1 by default: a web server that the world reaches passes /unsubscribe/
    on to it, and DISPATCHER_PUBLIC_URL is its address. Runs until Ctrl-C or SIGTERM. `dispatcher up` runs it, too.
    """
    from dispatcher.adapters.secret_keys import secret_keys  # noqa: PLC0415 - --help needs none of it
    from dispatcher.servers.pages import Pages  # noqa: PLC0415 - as above
    from dispatcher.servers.pages.server import serve  # noqa: PLC0415 - as above

    settings = settings_of_user()
    signal.signal(signal.SIGTERM, _end)
    with opened_ledger(settings) as ledger:
        keys = secret_keys(settings)
        with _listening(settings, patient=wait) as listening:
            where = f"http://{settings.pages.listen}"
            if as_json:
                document({"url": where, "public_url": settings.pages_url})
            else:
                line(f"pages at {where}, in mails {settings.pages_url}")
            sys.stdout.flush()
            serve(Pages(ledger.suppressions, keys, settings.pages_url), listening)


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def _listening(settings: "Settings", *, patient: bool) -> "socket.socket":
    from dispatcher.servers.address import listen  # noqa: PLC0415 - as above

    told = False
    while True:
        try:
            return listen(*settings.pages.place)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not patient:
                reason = f"cannot listen on {settings.pages.listen}: {os.strerror(error.errno or 0)}"
                raise ConfigurationError("pages.listen", reason) from None
        if not told:
            note(f"dispatcher: another program listens on {settings.pages.listen}; the pages wait for it to end")
            told = True
        time.sleep(_AGAIN_SECONDS)
