"""``dispatcher broker-url``."""

from urllib.parse import urlsplit

import typer

from dispatcher.cli.opening import settings_of_user
from dispatcher.cli.output import Json, document, line, note

_NEEDED = ("master_name", "sentinel_kwargs")


def broker_url(as_json: Json = False) -> None:
    """Print the URL of the running broker.

    It is for Celery-only producers on this machine, and holds a password.
    """
    from dispatcher.adapters.celery import configuration  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.runtime import broker_address  # noqa: PLC0415 - as above

    settings = settings_of_user()
    address = broker_address(settings)
    if address is None:
        note(f"dispatcher: no stack runs on {settings.data_dir}, and DISPATCHER_BROKER_URL is not set")
        raise typer.Exit(3)
    celery = configuration(address)
    url = celery["broker_url"]
    options = {name: value for name, value in celery["broker_transport_options"].items() if name in _NEEDED}
    if as_json:
        parts = urlsplit(url.partition(";")[0])
        document({
            "url": url, "host": parts.hostname, "port": parts.port,
            "broker_transport_options": options, "broker_use_ssl": celery["broker_use_ssl"],
        })  # fmt: skip
        return
    line(url)
    if options or celery["broker_use_ssl"]:
        note("dispatcher: Celery needs more than this URL: see broker_transport_options and broker_use_ssl in --json")
