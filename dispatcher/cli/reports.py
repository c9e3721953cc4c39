"""``dispatcher reports``: hand over documents, one for each recipient, and get back proof of who received what."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.opening import actor, json_argument, opened, pairs, settings_of_user, warn_if_unserved
from dispatcher.cli.output import Json, Reason, Yes, confirmed, count, document, line, note, progress, table, when
from dispatcher.cli.report_proof import app as proof
from dispatcher.cli.report_view import SHOWN, accepted, facts, follow, show_check, show_one
from dispatcher.delivery import UNSENT, WAITING
from dispatcher.errors import SubmissionError
from dispatcher.names import check_name

if TYPE_CHECKING:
    from dispatcher.report_job import ReportSpec

app = typer.Typer(help="Send documents, one for each recipient, and prove who received what.", no_args_is_help=True)
app.registered_commands += proof.registered_commands

Name = Annotated[str, typer.Argument(metavar="NAME", help="The report's name.")]
_Many = list[str] | None


@app.command(
    "send",
    epilog="Example: dispatcher reports send statements-2026-11 --manifest customers.csv --folder out "
    "--file '{customer}.pdf' --template report_ready --data november.json --under customer",
)
def send(  # noqa: PLR0917 - options, which nobody gives by position
    name: Name,
    manifest: Annotated[
        Path, typer.Option("--manifest", metavar="FILE", help="Who gets it: CSV, XLSX or JSON Lines, a row each.")
    ],
    folder: Annotated[str | None, typer.Option("--folder", metavar="DIR", help="Where the files are.")] = None,
    file: Annotated[
        _Many, typer.Option("--file", metavar="PATTERN", help="Each one's file, such as '{customer}.pdf'; repeatable.")
    ] = None,
    attach: Annotated[_Many, typer.Option("--attach", metavar="FILE", help="A file for all; repeatable.")] = None,
    renderer: Annotated[
        str | None, typer.Option("--render", metavar="NAME", help="Make the file by this one of [reports] renderers.")
    ] = None,
    filename: Annotated[
        str | None, typer.Option("--filename", metavar="PATTERN", help="What the file that is made is called.")
    ] = None,
    template: Annotated[str | None, typer.Option("--template", metavar="NAME", help="What is rendered.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="FILE|JSON", help="Data for all.")] = None,
    under: Annotated[
        str | None, typer.Option("--under", metavar="NAME", help="Put a row's values into this object of the data.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Instead of a template.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="With a subject.")] = None,
    locale: Annotated[
        str | None, typer.Option("--locale", metavar="TAG", help="For those whose row names none.")
    ] = None,
    sender: Annotated[str | None, typer.Option("--from", metavar="ADDRESS", help="The sender.")] = None,
    reply_to: Annotated[_Many, typer.Option("--reply-to", metavar="ADDRESS", help="Where answers go.")] = None,
    header: Annotated[_Many, typer.Option("--header", metavar="NAME=VALUE", help="A header of its own.")] = None,
    relay: Annotated[str | None, typer.Option("--relay", metavar="NAME", help="This relay and no other.")] = None,
    tag: Annotated[_Many, typer.Option("--tag", metavar="WORD", help="A word to find its mails by.")] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="ADDRESS", help="Who gets the distribution when it is over.")
    ] = None,
    too_large: Annotated[
        str | None,
        typer.Option("--too-large", metavar="link|split|refuse", help="What to do about files over the limit."),
    ] = None,
    link: Annotated[
        str | None, typer.Option("--link", metavar="PATTERN", help="Where such a file is, for --too-large link.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave those out who have no file, instead of sending nothing.")
    ] = False,
    check_only: Annotated[bool, typer.Option("--check", help="Only look; send nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how far it is.")] = False,
    as_json: Json = False,
) -> None:
    """Look at every row and every file, and send only if nothing was found. The same command again goes on after a
    stop. Exit 1 if it was refused, or if --watch has seen the end, and somebody was not reached."""
    from dispatcher.adapters.rows.file import of_file  # noqa: PLC0415 - --help needs none of it

    spec = _spec(
        folder=folder, files=file, attach=attach, renderer=renderer, filename=filename, template=template, data=data,
        under=under, subject=subject, text=text, locale=locale, reply_to=reply_to, headers=header, relay=relay,
        tags=tag, owner=owner, too_large=too_large, link=link, allow_missing=allow_missing or None, **{"from": sender},
    )  # fmt: skip
    check_name(name)
    settings = settings_of_user()
    with opened(settings, paths="anywhere") as dispatcher:
        with progress(0) as advance:
            ignored = {str(manifest.resolve())}
            checked = dispatcher.reports.check(spec, of_file(manifest), progress=advance, ignored=ignored)
        if check_only or not checked.ok:
            show_check(checked, as_json=as_json)
            raise typer.Exit(0 if checked.ok else 1)
        if not as_json:
            show_check(checked, as_json=False)
        with progress(len(checked.mails)) as advance:
            made = dispatcher.reports.send(name, spec, checked, actor(), progress=advance)
        warn_if_unserved(dispatcher, settings)
        if watch:
            follow(dispatcher, name)
        unsent = watch and not UNSENT.isdisjoint(dispatcher.reports.sums(name))
    if as_json:
        document(facts(made))
    else:
        line(f"{accepted(made)}; see `dispatcher reports show {name}`")
    if unsent:
        raise typer.Exit(1)


@app.command("list", epilog="Example: dispatcher reports list")
def list_(as_json: Json = False) -> None:
    """List all reports, the newest first."""
    with opened() as dispatcher:
        found = dispatcher.reports.listed()
    if as_json:
        document([facts(each) for each in found])
        return
    rows = [
        (each.name, each.state.value, each.total, len(each.missing), when(each.created_at), each.actor)
        for each in found
    ]
    table(("report", "state", "mails", "left out", "sent", "by"), rows)


@app.command("show", epilog="Example: dispatcher reports show statements-2026-11 --watch")
def show(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how far it is.")] = False,
    as_json: Json = False,
) -> None:
    """Show how far it is, and how many mails are in which state."""
    with opened() as dispatcher:
        if watch:
            follow(dispatcher, name)
        found, sums = dispatcher.reports.get(name), dispatcher.reports.sums(name)
        unsent = [] if as_json else dispatcher.reports.unsent(name, SHOWN)
    if as_json:
        document({**facts(found), "sums": sums})
    else:
        show_one(found, sums, unsent)


@app.command("cancel", epilog="Example: dispatcher reports cancel statements-2026-11 --reason 'wrong month' --yes")
def cancel(name: Name, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """End it. What was not sent yet does not go, and no more is taken in; this cannot be taken back."""
    from dispatcher.report_job import ended  # noqa: PLC0415 - --help needs none of it

    with opened() as dispatcher:
        found, sums = dispatcher.reports.get(name), dispatcher.reports.sums(name)
        if fault := ended(found):
            raise SubmissionError(name, f"{fault}; nothing was done")
        waiting = found.total - found.cursor + sum(sums.get(state, 0) for state in WAITING)
        confirmed(f"{count(waiting, 'mail')} of {name} will not be sent", yes=yes)
        found = dispatcher.reports.cancel(name, actor(reason))
    if as_json:
        document(facts(found))
    else:
        line(f"report {name} is cancelled")


@app.command(
    "resend",
    epilog="Example: dispatcher reports resend statements-2026-11 --only bounced,expired --to-list fix.csv --yes",
)
def resend(
    name: Name,
    only: Annotated[str, typer.Option("--only", metavar="STATES", help="Of those that ended so.")] = "bounced,expired",
    to_list: Annotated[
        Path | None,
        typer.Option("--to-list", metavar="FILE", help="CSV of old address and new address; only these get it."),
    ] = None,
    again: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The new report's name; NAME-again by default.")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send the same files again to those who did not get them, where they are now."""
    from dispatcher.cli.report_proof import moved_to, states_of  # noqa: PLC0415 - --help needs none of it

    states = states_of(only)
    new = again or f"{name}-again"
    with opened() as dispatcher:
        to = None if to_list is None else moved_to(to_list)
        sums = dispatcher.reports.sums(name)
        expected = len(to) if to is not None else sum(sums.get(state, 0) for state in states)
        confirmed(f"up to {count(expected, 'mail')} of {name} will go out again as report {new}", yes=yes)
        made = dispatcher.reports.resend(name, new, states, to, actor())
    if as_json:
        document(facts(made))
    else:
        line(accepted(made))
        note(f"dispatcher: see `dispatcher reports show {new}`")


def _spec(**options: Any) -> "ReportSpec":
    from dispatcher.report_job import ReportSpec  # noqa: PLC0415 - --help needs none of it

    given = {name: value for name, value in options.items() if value is not None}
    if given_data := given.pop("data", None):
        given["data"] = json_argument(given_data, "--data")
    if "headers" in given:
        given["headers"] = dict(pairs(given["headers"], "--header"))
    return ReportSpec.parse(given)
