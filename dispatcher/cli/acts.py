"""``dispatcher acts``: what people did."""

from typing import Annotated

import typer

from dispatcher.cli.opening import ago, opened_ledger
from dispatcher.cli.output import Json, document, note, table, when


def acts(
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Done since then: 2h, 3d or 2026-12-01T09:00.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many, newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """List what people did, newest first: who, what, to what, how many rows it changed, and why."""
    start = None if since is None else ago(since, "--since")
    with opened_ledger() as ledger:
        found = ledger.acts(since=start, limit=limit)
    if as_json:
        document(found)
        return
    table(
        ("at", "who", "did", "to", "count", "reason"),
        [(when(act.at), act.actor, act.act, act.subject, act.count, act.reason) for act in found],
    )
    if len(found) == limit:
        note(f"dispatcher: these are the newest {limit:,}; see more with --limit")
