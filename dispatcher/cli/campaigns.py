"""``dispatcher campaigns``: make one, check it, try it, start it, hold it, and see what became of everybody."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.campaign_view import facts, follow, show_check, show_one
from dispatcher.cli.opening import actor, json_argument, opened, pairs
from dispatcher.cli.output import Json, Reason, Yes, confirmed, count, document, line, note, progress, table, when
from dispatcher.delivery import State
from dispatcher.errors import ConfigurationError

if TYPE_CHECKING:
    from dispatcher.campaign import Campaign, CampaignSpec

app = typer.Typer(help="Send one mail to each of an audience, and answer for everybody.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The campaign's name.")]
_Many = list[str] | None
Template = Annotated[str | None, typer.Option("--template", metavar="NAME", help="What is rendered for each of them.")]
Audience = Annotated[str | None, typer.Option("--audience", metavar="NAME", help="Whom it goes to.")]
Listed = Annotated[str | None, typer.Option("--list", metavar="NAME", help="What its readers unsubscribe from.")]
Where = Annotated[_Many, typer.Option("--where", metavar="FILTER", help="Only these, such as country=CN or age>=18.")]
Data = Annotated[
    str | None, typer.Option("--data", metavar="FILE|JSON", help="Data for all; each one's attributes go over it.")
]
Under = Annotated[
    str | None, typer.Option("--under", metavar="NAME", help="Put the attributes into this object, such as customer.")
]
Locale = Annotated[str | None, typer.Option("--locale", metavar="TAG", help="For those whose row names none.")]
Sender = Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="The sender.")]
ReplyTo = Annotated[_Many, typer.Option("--reply-to", metavar="ADDRESS", help="Where answers go.")]
Header = Annotated[_Many, typer.Option("--header", metavar="NAME=VALUE", help="A header of its own.")]
Relay = Annotated[str | None, typer.Option("--relay", metavar="NAME", help="This relay and no other.")]
Tag = Annotated[_Many, typer.Option("--tag", metavar="WORD", help="A word to find its mails by.")]
Start = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="2026-12-01T09:00 by everybody's own clock; with +08:00, at once for all."
    ),
]
Zone = Annotated[str | None, typer.Option("--zone", metavar="ZONE", help="For those whose row names none.")]
Hours = Annotated[
    str | None, typer.Option("--hours", metavar="HOURS", help="When mail may go, such as 'mon-fri 09:00-18:00'.")
]
Rate = Annotated[_Many, typer.Option("--rate", metavar="RATE", help="At most so many, such as 500/min.")]
Owner = Annotated[str | None, typer.Option("--owner", metavar="ADDRESS", help="Who gets the report when it is over.")]


def _given(**options: Any) -> dict[str, Any]:
    """The fields of a spec that were given."""
    fields = {name: value for name, value in options.items() if value is not None}
    if data := fields.pop("data", None):
        fields["data"] = json_argument(data, "--data")
    if "headers" in fields:
        fields["headers"] = dict(pairs(fields["headers"], "--header"))
    return fields


def _spec(given: dict[str, Any]) -> "CampaignSpec":
    from dispatcher.campaign import CampaignSpec  # noqa: PLC0415 - --help needs none of it

    return CampaignSpec.parse(given)


@app.command(
    "create",
    epilog="Example: dispatcher campaigns create spring --template newsletter --audience customers --list news",
)
def create(  # noqa: PLR0917 - options, which nobody gives by position
    name: Name,
    template: Template = None,
    audience: Audience = None,
    listed: Listed = None,
    where: Where = None,
    data: Data = None,
    under: Under = None,
    locale: Locale = None,
    sender: Sender = None,
    reply_to: ReplyTo = None,
    header: Header = None,
    relay: Relay = None,
    tag: Tag = None,
    start: Start = None,
    zone: Zone = None,
    hours: Hours = None,
    rate: Rate = None,
    owner: Owner = None,
    as_json: Json = False,
) -> None:
    """Make a draft. Nothing is sent before it is checked and started."""
    given = _given(
        template=template, audience=audience, list=listed, where=where, data=data, under=under, locale=locale,
        reply_to=reply_to, headers=header, relay=relay, tags=tag, start=start, zone=zone, hours=hours, rate=rate,
        owner=owner, **{"from": sender},
    )  # fmt: skip
    with opened() as dispatcher:
        made = dispatcher.campaigns.create(name, _spec(given), actor())
    _say(made, as_json, f"campaign {name} is a draft; look at it with `dispatcher campaigns check {name}`")


@app.command("edit", epilog="Example: dispatcher campaigns edit spring --rate 1000/min")
def edit(  # noqa: PLR0917 - as above
    name: Name,
    template: Template = None,
    audience: Audience = None,
    listed: Listed = None,
    where: Where = None,
    data: Data = None,
    under: Under = None,
    locale: Locale = None,
    sender: Sender = None,
    reply_to: ReplyTo = None,
    header: Header = None,
    relay: Relay = None,
    tag: Tag = None,
    start: Start = None,
    zone: Zone = None,
    hours: Hours = None,
    rate: Rate = None,
    owner: Owner = None,
    as_json: Json = False,
) -> None:
    """Change one that was not started; an empty value takes a setting away. It has to be checked again."""
    given = _given(
        template=template, audience=audience, list=listed, where=where, data=data, under=under, locale=locale,
        reply_to=reply_to, headers=header, relay=relay, tags=tag, start=start, zone=zone, hours=hours, rate=rate,
        owner=owner, **{"from": sender},
    )  # fmt: skip
    with opened() as dispatcher:
        before = dispatcher.campaigns.get(name).spec.document()
        wanted = {field: value for field, value in (before | given).items() if value not in ("", [""], {})}
        made = dispatcher.campaigns.revise(name, _spec(wanted), actor())
    _say(made, as_json, f"campaign {name} is a draft again; look at it with `dispatcher campaigns check {name}`")


@app.command("check", epilog="Example: dispatcher campaigns check spring")
def check(
    name: Name,
    without_invalid: Annotated[
        bool, typer.Option("--without-invalid", help="Go without those whose data does not fit, instead of not at all.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at everybody in the audience, and render every shape of their data. Sends nothing. Exit 1 if it may not go.

    From then on it goes by this version of the audience and of the template, whatever is changed meanwhile.
    """
    with opened() as dispatcher:
        total = dispatcher.ledger.audiences.current(dispatcher.campaigns.get(name).spec.audience).kept
        with progress(total) as advance:
            made = dispatcher.campaigns.check(name, actor(), without_invalid=without_invalid, progress=advance)
    if as_json:
        document(facts(made))
    else:
        show_check(made)
    raise typer.Exit(0 if made.checked and made.checked["ok"] else 1)


@app.command("test", epilog="Example: dispatcher campaigns test spring --to me@example.com --rows 3")
def try_(
    name: Name,
    to: Annotated[
        list[str], typer.Option("--to", metavar="ADDRESS", help="Instead of the audience; as often as needed.")
    ],
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, max=20, help="As the first N of them get it.")] = 1,
    as_json: Json = False,
) -> None:
    """Send it to a few addresses of yours, with the data of the first people of the audience."""
    with opened() as dispatcher:
        receipts = dispatcher.campaigns.test(name, to, rows=rows)
    if as_json:
        document([receipt.document() for receipt in receipts])
        return
    for receipt in receipts:
        line(f"{receipt.id}\t{receipt.recipients[0].to}\t{receipt.state}")


@app.command("start", epilog="Example: dispatcher campaigns start spring --yes --watch")
def start(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how far it is.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let it go: at once, or when its time comes."""
    with opened() as dispatcher:
        found = dispatcher.campaigns.get(name)
        if checked := found.checked:
            going = checked["recipients"] - checked["suppressed"] - checked["invalid"]
            at = f" from {when(found.spec.earliest())} on" if found.spec.start else ""
            confirmed(f"{count(going, 'mail')} of {found.spec.template} will go to {found.spec.audience}{at}", yes=yes)
        made = dispatcher.campaigns.start(name, actor())
        _say(made, as_json, f"campaign {name} is {made.state}")
        if watch:
            follow(dispatcher, name)


@app.command("pause", epilog="Example: dispatcher campaigns pause spring --reason 'wrong price'")
def pause(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Stop it, at once and on all machines. What a worker has in hand is finished; nothing is lost."""
    _act(name, "pause", reason, as_json)


@app.command("resume", epilog="Example: dispatcher campaigns resume spring")
def resume(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Let it go on, whoever or whatever has paused it."""
    _act(name, "resume", reason, as_json)


@app.command("cancel", epilog="Example: dispatcher campaigns cancel spring --reason 'wrong price' --yes")
def cancel(name: Name, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """End it. What was not sent yet is cancelled; this cannot be taken back."""
    with opened() as dispatcher:
        sums = dispatcher.campaigns.sums(name)
    confirmed(f"{count(sums.waiting + sums.accepted - sums.settled, 'mail')} of {name} will not be sent", yes=yes)
    _act(name, "cancel", reason, as_json)


@app.command("retry", epilog="Example: dispatcher campaigns retry spring --only deferred,invalid,expired --yes")
def retry(
    name: Name,
    only: Annotated[
        str, typer.Option("--only", metavar="STATES", help="Of deferred, invalid, expired, bounced; with commas.")
    ] = "deferred,invalid,expired",
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Try those again that ended, or wait, in these states. Whoever got it does not get it again."""
    states = [_state(text.strip()) for text in only.split(",")]
    with opened() as dispatcher:
        sums = dispatcher.campaigns.sums(name)
        expected = sum(sums.states.get(state, 0) for state in states)
        if expected:
            confirmed(f"{count(expected, 'mail')} of {name} will be tried again", yes=yes)
        with progress(expected) as advance:
            changed = dispatcher.campaigns.retry(name, states, actor(reason), advance)
    if as_json:
        document({"expected": expected, "changed": changed})
    else:
        line(f"{count(changed, 'mail')} will be tried again")
    raise typer.Exit(0 if changed >= expected else 1)


@app.command("list", epilog="Example: dispatcher campaigns list")
def list_(as_json: Json = False) -> None:
    """List all campaigns, the newest first."""
    with opened() as dispatcher:
        found = dispatcher.campaigns.listed()
    if as_json:
        document([facts(each) for each in found])
        return
    table(
        ("campaign", "state", "template", "audience", "mails", "changed", "by"),
        [
            (c.name, c.state.value, c.spec.template, c.spec.audience, c.expanded, when(c.changed_at), c.actor)
            for c in found
        ],
    )


@app.command("show", epilog="Example: dispatcher campaigns show spring --watch")
def show(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how far it is.")] = False,
    as_json: Json = False,
) -> None:
    """Show where it stands: what became of every row of its audience. Exit 1 where the sums do not balance."""
    with opened() as dispatcher:
        if watch:
            follow(dispatcher, name)
        found, sums = dispatcher.campaigns.get(name), dispatcher.campaigns.sums(name)
    faults = sums.faults()
    if as_json:
        document({**facts(found), "sums": sums, "waiting": sums.waiting, "faults": faults})
    else:
        show_one(found, sums)
    for fault in faults:
        note(f"dispatcher: the sums do not balance: {fault}")
    raise typer.Exit(1 if faults else 0)


@app.command("report", epilog="Example: dispatcher campaigns report spring --state bounced --output bounced.csv")
def report(
    name: Name,
    state: Annotated[list[State] | None, typer.Option("--state", help="In this state; as often as needed.")] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="A file; stdout by default.")] = None,
    as_json: Json = False,
) -> None:
    """Write a line of CSV for each recipient: the row, the address, what became of it, and the relay's reply."""
    from dispatcher.campaign_report import COLUMNS, CampaignReport  # noqa: PLC0415 - --help needs none of it

    with opened() as dispatcher:
        found = dispatcher.campaigns.get(name)
        lines = CampaignReport(dispatcher.ledger).lines(found, tuple(state or ()))
        if as_json:
            document([dict(zip(COLUMNS, each, strict=True)) for each in lines])
            return
        try:
            file = sys.stdout if output is None else output.open("w", encoding="utf-8-sig", newline="")
        except OSError as error:
            raise ConfigurationError("--output", f"cannot write {output}: {error.strerror}") from None
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        number = 0
        for row in lines:
            rows.writerow(row)
            number += 1
    if output is not None:
        file.close()
    note(f"dispatcher: {count(number, 'row')} written")


def _act(name: str, verb: str, reason: str, as_json: bool) -> None:
    with opened() as dispatcher:
        made = dispatcher.campaigns.act(name, verb, actor(reason))
    _say(made, as_json, f"campaign {name} is {made.state}")


def _say(made: "Campaign", as_json: bool, text: str) -> None:
    if as_json:
        document(facts(made))
    else:
        line(text)


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no state", param_hint="--only") from None
