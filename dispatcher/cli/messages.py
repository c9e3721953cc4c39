"""``dispatcher messages``: find mails and act on them, one row for each recipient."""

import csv
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Annotated, Literal

import typer

from dispatcher.cli.opening import actor, ago, opened, opened_ledger, pairs
from dispatcher.cli.output import (
    Json,
    Reason,
    Yes,
    confirmed,
    count,
    document,
    json_line,
    line,
    note,
    progress,
    table,
    when,
)
from dispatcher.cli.raw import show_raw
from dispatcher.cli.timeline import as_document, reply, timeline
from dispatcher.delivery import Lane, Selector, State
from dispatcher.errors import ConfigurationError, NotFound
from dispatcher.ledger import changeable
from dispatcher.records import DeliveryRecord

app = typer.Typer(help="Find mails and act on them, one row for each recipient.", no_args_is_help=True)

_TIMELINES = 20
_NOT_SENT = (State.BOUNCED, State.EXPIRED, State.INVALID, State.CANCELLED)
_OUTCOMES = {
    "sent": (State.SENT, "count as sent"),
    "bounced": (State.BOUNCED, "count as bounced"),
    "resend": (State.QUEUED, "be sent again"),
    "drop": (State.CANCELLED, "be given up"),
}
_COLUMNS = (
    "id", "submission", "message_id", "to", "kind", "lane", "state", "attempts", "accepted_at", "due_at", "changed_at",
    "template", "relay", "code", "enhanced", "text",
)  # fmt: skip

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids of submissions, messages or deliveries, Message-IDs or keys."),
]
States = Annotated[list[State] | None, typer.Option("--state", help="In this state; as often as needed.")]
To = Annotated[str | None, typer.Option("--to", metavar="ADDRESS", help="To this address.")]
Tag = Annotated[str | None, typer.Option("--tag", metavar="WORD", help="With this tag.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", metavar="KEY", help="Of the submission with this key.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="NAME=VALUE", help="NAME=VALUE; as often as needed.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Accepted since then: 2h, 3d or 2026-12-01T09:00.")
]
OfCampaign = Annotated[str | None, typer.Option("--campaign", metavar="NAME", help="Of this campaign.")]
InLane = Annotated[Lane | None, typer.Option("--lane", help="In this lane.")]


def _selector(
    ids: list[str] | None,
    *,
    states: list[State] | None,
    to: str | None,
    tag: str | None,
    campaign: str | None,
    key: str | None,
    metadata: list[str] | None,
    since: str | None,
    lane: Lane | None,
) -> Selector:
    return Selector(
        ids=(*(ids or ()), *([] if campaign is None else [_submission_of(campaign)])),
        states=tuple(states or ()),
        to=to,
        tag=tag,
        key=key,
        metadata=pairs(metadata or (), "--metadata"),
        since=None if since is None else ago(since, "--since"),
        lane=lane,
    )


def _submission_of(campaign: str) -> str:
    """The id of its mails. Raises NotFound."""
    with opened_ledger() as ledger:
        found = ledger.campaigns.get(campaign).submission
    if found is None:
        raise NotFound(f"campaign {campaign} was not started, so it has no mails yet")
    return found


@app.command("list", epilog="Example: dispatcher messages list --state bounced --since 2h")
def list_(
    ids: Ids = None,
    *,
    state: States = None,
    to: To = None,
    tag: Tag = None,
    campaign: OfCampaign = None,
    key: Key = None,
    metadata: Metadata = None,
    since: Since = None,
    lane: InLane = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many, newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """List mails, newest first."""
    selector = replace(
        _selector(
            ids, states=state, to=to, tag=tag, campaign=campaign, key=key, metadata=metadata, since=since, lane=lane
        ),
        limit=limit,
    )
    with opened_ledger() as ledger:
        found = list(ledger.find(selector))
    if as_json:
        document([as_document(record) for record in found])
        return
    table(
        ("id", "to", "state", "accepted", "attempts", "relay", "last reply"),
        [
            (r.id, r.rcpt, r.state.value, when(r.accepted_at), r.attempts, r.relay, reply(r.code, r.enhanced, r.text))
            for r in found
        ],
        short=("id", "to", "state", "last reply"),
    )
    if len(found) == limit:
        note(f"dispatcher: these are the newest {limit:,}; see more with --limit, or all with `messages export`")


@app.command("show", epilog="Example: dispatcher messages show SO-1001/confirmation")
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="An id of any kind, a Message-ID or a key.")],
    raw: Annotated[bool, typer.Option("--raw", help="Build the mail's bytes again and print them.")] = False,
    as_json: Json = False,
) -> None:
    """Show what happened to a mail: every attempt, the relay, what it said. --raw prints the mail as it was sent."""
    with opened() as dispatcher:
        if raw:
            show_raw(dispatcher, name)
            return
        found = list(dispatcher.ledger.find(Selector(ids=(name,), limit=_TIMELINES + 1)))
    if as_json:
        document([as_document(record, history=True) for record in found[:_TIMELINES]])
        return
    for record in found[:_TIMELINES]:
        timeline(record)
    if len(found) > _TIMELINES:
        note(f"dispatcher: these are the newest {_TIMELINES}; `dispatcher messages list {name}` knows them all")


@app.command("cancel", epilog="Example: dispatcher messages cancel --tag newsletter --reason 'wrong price' --yes")
def cancel(
    ids: Ids = None,
    *,
    state: States = None,
    to: To = None,
    tag: Tag = None,
    campaign: OfCampaign = None,
    key: Key = None,
    metadata: Metadata = None,
    since: Since = None,
    lane: InLane = None,
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Cancel what was not sent yet. A mail that is being sent at this moment is not stopped."""
    selector = _selector(
        ids, states=state, to=to, tag=tag, campaign=campaign, key=key, metadata=metadata, since=since, lane=lane
    )
    _change(selector, State.CANCELLED, changeable(State.CANCELLED), "be cancelled", reason, yes=yes, as_json=as_json)


@app.command("retry", epilog="Example: dispatcher messages retry --now --tag order --yes")
def retry(
    ids: Ids = None,
    *,
    state: States = None,
    to: To = None,
    tag: Tag = None,
    campaign: OfCampaign = None,
    key: Key = None,
    metadata: Metadata = None,
    since: Since = None,
    lane: InLane = None,
    now: Annotated[bool, typer.Option("--now", help="Also what is deferred: do not wait for its time.")] = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Try again what ended without being sent: bounced, expired, invalid or cancelled, but for reports that were
    cancelled as a whole."""
    selector = _selector(
        ids, states=state, to=to, tag=tag, campaign=campaign, key=key, metadata=metadata, since=since, lane=lane
    )
    states: tuple[State, ...] = (*_NOT_SENT, State.DEFERRED) if now else _NOT_SENT
    if state:
        states = tuple(set(changeable(State.QUEUED)) - {State.IN_DOUBT})
    _change(selector, State.QUEUED, states, "be tried again", reason, yes=yes, as_json=as_json)


@app.command("resolve", epilog="Example: dispatcher messages resolve ID --sent --reason 'seen in the relay log'")
def resolve(
    ids: Ids = None,
    *,
    sent: Annotated[bool, typer.Option("--sent", help="It was sent: the relay has it.")] = False,
    bounced: Annotated[bool, typer.Option("--bounced", help="It was refused, or came back.")] = False,
    resend: Annotated[bool, typer.Option("--resend", help="It is sent, perhaps once more.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="It is not sent again, whatever became of it.")] = False,
    to: To = None,
    tag: Tag = None,
    campaign: OfCampaign = None,
    key: Key = None,
    metadata: Metadata = None,
    since: Since = None,
    lane: InLane = None,
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Settle what is held in doubt: say one of --sent, --bounced, --resend and --drop."""
    flags = {"sent": sent, "bounced": bounced, "resend": resend, "drop": drop}
    given = [name for name, said in flags.items() if said]
    if len(given) != 1:
        raise typer.BadParameter("say what is to become of it: one of --sent, --bounced, --resend and --drop")
    state, verb = _OUTCOMES[given[0]]
    selector = _selector(
        ids, states=None, to=to, tag=tag, campaign=campaign, key=key, metadata=metadata, since=since, lane=lane
    )
    _change(selector, state, (State.IN_DOUBT,), verb, reason, yes=yes, as_json=as_json)


@app.command("export", epilog="Example: dispatcher messages export --since 30d --format csv --output mails.csv")
def export(
    ids: Ids = None,
    *,
    state: States = None,
    to: To = None,
    tag: Tag = None,
    campaign: OfCampaign = None,
    key: Key = None,
    metadata: Metadata = None,
    since: Since = None,
    lane: InLane = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="JSON Lines, or CSV.")] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="A file; stdout by default.")] = None,
    as_json: Json = False,
) -> None:
    """Write every mail that fits, however many, with its timeline (JSON Lines) or without (CSV)."""
    selector = _selector(
        ids, states=state, to=to, tag=tag, campaign=campaign, key=key, metadata=metadata, since=since, lane=lane
    )
    try:
        file = sys.stdout if output is None else output.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigurationError("--output", f"cannot write {output}: {error.strerror}") from None
    with opened_ledger() as ledger:
        number = _write(ledger.find(selector), "json" if as_json else form, file)
    if output is not None:
        file.close()
    note(f"dispatcher: {count(number, 'row')} written")


def _write(records: Iterable[DeliveryRecord], form: str, file: IO[str]) -> int:
    number = 0
    if form == "json":
        found = [as_document(record, history=True) for record in records]
        document(found, file)
        return len(found)
    rows = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    if form == "csv":
        rows.writeheader()
    for record in records:
        number += 1
        if form == "csv":
            rows.writerow(as_document(record))
        else:
            file.write(json_line(as_document(record, history=True)))
    return number


def _note_suppressed(number: int) -> None:
    if number:
        note(
            f"dispatcher: {count(number, 'delivery')} of them were suppressed; who still is will be suppressed again: "
            "see `dispatcher suppressions show ADDRESS`"
        )


def _change(
    selector: Selector,
    state: State,
    sources: tuple[State, ...],
    verb: str,
    reason: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Count, ask, change; exit 1 when nothing was found, some had moved on meanwhile, or cannot be rendered again."""
    if selector == Selector():
        raise typer.BadParameter("say which: ids, or one of --state, --to, --tag, --idempotency-key, --since, ...")
    states = tuple(s for s in sources if s in selector.states) if selector.states else tuple(sources)
    if not states:
        raise typer.BadParameter(f"only what is {', '.join(sorted(sources))} can {verb}", param_hint="--state")
    which = replace(selector, states=states)
    with opened_ledger() as ledger:
        wiped = ledger.count(replace(which, wiped=True)) if state is State.QUEUED else 0
        expected = ledger.count(which) - wiped
        if wiped:
            note(
                f"dispatcher: {count(wiped, 'delivery')} cannot {verb}: what was x-sensitive in their data was wiped "
                "when they were settled; let their producer submit them again"
            )
        if state is State.QUEUED and State.SUPPRESSED in states:
            _note_suppressed(ledger.count(replace(which, states=(State.SUPPRESSED,))))
        if expected:
            confirmed(f"{count(expected, 'delivery')} will {verb}", yes=yes)
            with progress(expected) as advance:
                changed = ledger.change(which, state, actor(reason), advance)
        else:
            changed = 0
    if as_json:
        document({"expected": expected, "changed": changed, "wiped": wiped})
    elif not expected:
        note(f"dispatcher: nothing that fits can {verb}")
    else:
        line(f"{count(changed, 'delivery')} changed")
    raise typer.Exit(0 if expected and changed >= expected and not wiped else 1)
