"""``dispatcher broker-url``."""

from urllib.parse import urlsplit

import typer

from dispatcher.cli.opening import settings_of_user
from dispatcher.cli.output import Json, document, line, note


def broker_url(as_json: Json = False) -> None:
    """Print the URL of the running broker.

    It is for Celery-only producers on this machine, and holds a password.
    """
    from dispatcher.adapters.runtime import broker_url as found_url  # noqa: PLC0415 - --help needs none of it

    settings = settings_of_user()
    url = found_url(settings)
    if url is None:
        note(f"dispatcher: no stack runs on {settings.data_dir}, and DISPATCHER_BROKER_URL is not set")
        raise typer.Exit(3)
    if as_json:
        parts = urlsplit(url)
        document({"url": url, "host": parts.hostname, "port": parts.port})
    else:
        line(url)
