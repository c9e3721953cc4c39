"""``dispatcher broker-url``."""

from urllib.parse import urlsplit

import typer

from dispatcher.cli.output import Json, document, line, note
from dispatcher.settings import load


def broker_url(as_json: Json = False) -> None:
    """Print the URL of the broker, for Celery-only producers on this machine. It holds a password."""
    from dispatcher.bootstrap import broker_url as found_url  # noqa: PLC0415 - --help needs none of it

    settings = load()
    url = found_url(settings)
    if url is None:
        note(f"dispatcher: no stack runs on {settings.data_dir} and DISPATCHER_BROKER_URL is not set: try `dispatcher up`")
        raise typer.Exit(3)
    if as_json:
        parts = urlsplit(url)
        document({"url": url, "host": parts.hostname, "port": parts.port})
    else:
        line(url)
