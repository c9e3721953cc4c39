"""``dispatcher db``: the ledger's tables."""

import typer

from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import Json, document, line

app = typer.Typer(help="Create and migrate the ledger's tables.", no_args_is_help=True)


@app.command("upgrade", epilog="Example: dispatcher db upgrade")
def upgrade(as_json: Json = False) -> None:
    """Create the ledger's tables, or bring them to the version that this program needs, with their data in place."""
    from dispatcher.adapters.runtime import writable  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.sql import engine  # noqa: PLC0415 - as above

    settings = settings_of_user()
    writable(settings)
    version = engine.upgrade(settings.ledger)
    document({"schema": version}) if as_json else line(f"the ledger has schema {version}")


@app.command("check", epilog="Example: dispatcher db check")
def check(as_json: Json = False) -> None:
    """Check that this program can use the ledger. A SQLite file of the dispatcher's own is made or migrated first."""
    with opened_ledger() as ledger:
        ledger.ticks()
    document({"usable": True}) if as_json else line("the ledger can be used")
