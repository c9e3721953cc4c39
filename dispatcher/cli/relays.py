"""``dispatcher relays``: the relays of the settings, and whether they let us in."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.opening import settings_of_user
from dispatcher.cli.output import Json, document, note, table
from dispatcher.errors import ConfigurationError, TransportError
from dispatcher.relay import Relay

if TYPE_CHECKING:
    from dispatcher.settings import Settings

app = typer.Typer(help="List and test the relays.", no_args_is_help=True)


@app.command("list", epilog="Example: dispatcher relays list")
def list_(as_json: Json = False) -> None:
    """List the relays in the order in which they are tried."""
    relays = settings_of_user().relay_table()
    if as_json:
        document({name: _facts(relay) for name, relay in relays.items()})
        return
    table(
        ("relay", "where", "user", "priority", "per connection"),
        [(n, r.display, r.username, r.priority, f"{r.max_messages_per_connection} mails") for n, r in relays.items()],
    )


@app.command("test", epilog="Example: dispatcher relays test default")
def try_(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RELAY]...", help="Relays; all by default.")] = None,
    as_json: Json = False,
) -> None:
    """Connect, secure, log in, and print what is offered. No mail is sent. Exit 3 if one does not let us in."""
    settings = settings_of_user()
    relays = settings.relay_table()
    if unknown := [name for name in names or () if name not in relays]:
        raise ConfigurationError(f"relay {unknown[0]}", f"is not configured; there are {', '.join(relays) or 'none'}")
    if not relays:
        raise ConfigurationError("DISPATCHER_RELAY_URL", "no relay is configured")
    results = {name: tested(settings, name) for name in names or relays}
    if as_json:
        document(results)
    else:
        table(
            ("relay", "where", "result", "TLS", "AUTH", "largest mail", "offers"),
            [
                (
                    *(name, relays[name].display, "ok" if r["ok"] else "fail", r["tls"], r["auth"], _bytes(r["size"])),
                    ", ".join(r["extensions"]),
                )
                for name, r in results.items()
            ],
        )
        for result in results.values():
            if not result["ok"]:
                note(f"dispatcher: {result['reason']}")
    raise typer.Exit(0 if all(result["ok"] for result in results.values()) else 3)


def tested(settings: "Settings", name: str) -> dict[str, Any]:
    """What a relay offers, or why it does not let us in."""
    from dispatcher.adapters.smtp import SmtpTransport  # noqa: PLC0415 - --help needs none of it

    transport = SmtpTransport(settings.relay_table()[name])
    try:
        found = transport.check()
    except TransportError as error:
        return {"ok": False, "reason": str(error), "tls": None, "auth": None, "size": None, "extensions": []}
    finally:
        transport.close()
    return {
        "ok": True, "reason": None, "tls": found.tls, "auth": found.auth, "size": found.size,
        "extensions": list(found.extensions),
    }  # fmt: skip


def _facts(relay: Relay) -> dict[str, Any]:
    return {
        "host": relay.host, "port": relay.port, "tls": relay.tls, "user": relay.username, "priority": relay.priority,
        "max_messages_per_connection": relay.max_messages_per_connection,
    }  # fmt: skip


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"
