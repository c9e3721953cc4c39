"""``dispatcher schedules``: mails and campaigns that come again and again."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.opening import actor, json_argument, opened, settings_of_user, warn_if_unserved
from dispatcher.cli.output import Json, Reason, Yes, confirmed, document, line, note, plain, table
from dispatcher.zones import zone as zone_of

if TYPE_CHECKING:
    from dispatcher.schedule import Schedule, ScheduleSpec

app = typer.Typer(help="Mails and campaigns that come again and again, each time once.", no_args_is_help=True)

_EITHER = {
    "cron": ("every",), "every": ("cron",), "submission": ("campaign", "report"), "campaign": ("submission", "report"),
    "report": ("submission", "campaign"),
}  # fmt: skip
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
Cron = Annotated[
    str | None, typer.Option("--cron", metavar="LINE", help="By the clock of --zone, such as '30 9 * * mon-fri'.")
]
Every = Annotated[str | None, typer.Option("--every", metavar="DURATION", help="Or each time after 90s, 2h, 7d.")]
Zone = Annotated[str | None, typer.Option("--zone", metavar="ZONE", help="Whose clock it is; UTC by default.")]
CatchUp = Annotated[
    str | None,
    typer.Option("--catch-up", metavar="all|latest|skip", help="What to do after a downtime; latest by default."),
]
Late = Annotated[
    str | None, typer.Option("--late", metavar="DURATION", help="Too late after this: 1d by default, 5m with skip.")
]
Start = Annotated[str | None, typer.Option("--start", metavar="TIME", help="Not before, such as 2027-01-01T00:00.")]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Not after.")]
Mail = Annotated[
    str | None, typer.Option("--submission", metavar="FILE|JSON", help="The mail, as `dispatcher submit` takes it.")
]
Campaign = Annotated[
    str | None,
    typer.Option("--campaign", metavar="FILE|JSON", help="Or a campaign: template, audience, list, data and so on."),
]
ReportJob = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE|JSON", help="Or a report: manifest or manifest_command, folder and so on."),
]
With = Annotated[
    bool | None,
    typer.Option("--with-occurrence/--without-occurrence", help="Data has schedule.name and schedule.at."),
]
Count = Annotated[int, typer.Option("-n", metavar="N", min=1, max=1000, help="So many.")]


def _given(**options: Any) -> dict[str, Any]:
    """The fields of a spec that were given."""
    found = {name: value for name, value in options.items() if value is not None}
    jobs = [name for name in ("submission", "campaign", "report") if found.get(name)]
    return found | {name: json_argument(found[name], f"--{name}") for name in jobs}


def _spec(given: dict[str, Any]) -> "ScheduleSpec":
    from dispatcher.schedule import ScheduleSpec  # noqa: PLC0415 - --help needs none of it

    return ScheduleSpec.parse(given)


@app.command(
    "add",
    epilog="Example: dispatcher schedules add report --cron '30 9 * * mon-fri' --zone Europe/Berlin "
    '--submission \'{"to": ["me@example.com"], "subject": "Good morning", "text": "It is half past nine."}\'',
)
def add(  # noqa: PLR0917 - options, which nobody gives by position
    name: Name,
    cron: Cron = None,
    every: Every = None,
    zone: Zone = None,
    catch_up: CatchUp = None,
    late: Late = None,
    start: Start = None,
    end: End = None,
    submission: Mail = None,
    campaign: Campaign = None,
    report: ReportJob = None,
    with_occurrence: With = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Make one. It goes from now on, whenever workers run."""
    given = _given(
        cron=cron, every=every, zone=zone, catch_up=catch_up, late=late, start=start, end=end, submission=submission,
        campaign=campaign, report=report, with_occurrence=with_occurrence,
    )  # fmt: skip
    with opened() as dispatcher:
        made = dispatcher.schedules.add(name, _spec(given), actor(reason))
    _say(made, as_json)
    _warn_if_nothing_is_read(made)


@app.command("edit", epilog="Example: dispatcher schedules edit report --cron '0 8 * * mon-fri' --reason 'earlier'")
def edit(  # noqa: PLR0917 - as above
    name: Name,
    cron: Cron = None,
    every: Every = None,
    zone: Zone = None,
    catch_up: CatchUp = None,
    late: Late = None,
    start: Start = None,
    end: End = None,
    submission: Mail = None,
    campaign: Campaign = None,
    report: ReportJob = None,
    with_occurrence: With = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Change one, from now on; an empty value takes a setting away."""
    given = _given(
        cron=cron, every=every, zone=zone, catch_up=catch_up, late=late, start=start, end=end, submission=submission,
        campaign=campaign, report=report, with_occurrence=with_occurrence,
    )  # fmt: skip
    with opened() as dispatcher:
        before = dispatcher.schedules.get(name).spec.document()
        for other in (other for field in _EITHER.keys() & given.keys() for other in _EITHER[field]):
            before.pop(other, None)
        wanted = {field: value for field, value in (before | given).items() if value != ""}
        made = dispatcher.schedules.edit(name, _spec(wanted), actor(reason))
    _say(made, as_json)
    _warn_if_nothing_is_read(made)


@app.command("pause", epilog="Example: dispatcher schedules pause report --reason 'holidays'")
def pause(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Fire nothing of it, at once and on all machines, until it is resumed."""
    with opened() as dispatcher:
        made = dispatcher.schedules.pause(name, actor(reason))
    _say(made, as_json)


@app.command("resume", epilog="Example: dispatcher schedules resume report")
def resume(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Let it go on. What came up meanwhile is caught up with as --catch-up says."""
    with opened() as dispatcher:
        made = dispatcher.schedules.resume(name, actor(reason))
    _say(made, as_json)


@app.command("remove", epilog="Example: dispatcher schedules remove report --yes --reason 'nobody reads it'")
def remove(name: Name, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Remove it with its history. What has fired stays."""
    with opened() as dispatcher:
        found = dispatcher.schedules.get(name)
        confirmed(f"schedule {name} will be removed with its history", yes=yes)
        dispatcher.schedules.remove(name, actor(reason))
    if as_json:
        document(_facts(found))
    else:
        line(f"schedule {name} is removed")


@app.command("run-now", epilog="Example: dispatcher schedules run-now report --reason 'the boss wants it at once'")
def run_now(name: Name, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Fire it once more, beside its times, and also while it is paused. Asks where that mails many."""
    settings = settings_of_user()
    with opened(settings) as dispatcher:
        spec = dispatcher.schedules.get(name).spec
        if spec.submission is None:
            confirmed(f"{_what(spec)} goes once more, beside the times of {name}", yes=yes)
        made = dispatcher.schedules.run_now(name, actor(reason))
        warn_if_unserved(dispatcher, settings)
    if as_json:
        document(made._asdict())
    else:
        line(f"schedule {name} fires; see `dispatcher schedules history {name}`")


@app.command("list", epilog="Example: dispatcher schedules list")
def list_(as_json: Json = False) -> None:
    """List all schedules: when each goes next, by its own clock."""
    with opened() as dispatcher:
        found = dispatcher.schedules.listed()
    if as_json:
        document([_facts(each) for each in found])
        return
    table(
        ("schedule", "when", "what", "next", "by"),
        [(each.name, _when(each.spec), _what(each.spec), _next(each), each.actor) for each in found],
    )


@app.command("next", epilog="Example: dispatcher schedules next report -n 5")
def next_(name: Name, count: Count = 5, as_json: Json = False) -> None:
    """Print when it goes next, by its own clock, and what a change of clocks does to it."""
    from dispatcher.cron import moved  # noqa: PLC0415 - as above

    with opened() as dispatcher:
        zone = dispatcher.schedules.get(name).spec.zone
        found = dispatcher.schedules.next(name, count)
    if as_json:
        document([{"at": each.at, "local": _local(each.at, zone), "note": moved(each, zone)} for each in found])
        return
    table(("at", "note"), [(_local(each.at, zone), moved(each, zone)) for each in found])


@app.command("history", epilog="Example: dispatcher schedules history report -n 20")
def history(name: Name, count: Count = 20, as_json: Json = False) -> None:
    """Print what has become of it, the newest first: fired, late, skipped, failed, and why."""
    with opened() as dispatcher:
        zone = dispatcher.schedules.get(name).spec.zone
        found = dispatcher.schedules.history(name, count)
    if as_json:
        document([{**each._asdict(), "local": _local(each.at, zone)} for each in found])
        return
    table(
        ("at", "state", "how", "outcome"),
        [(_local(each.at, zone), each.state.value, "by hand" if each.by_hand else "", each.outcome) for each in found],
    )


def _say(made: "Schedule", as_json: bool) -> None:
    if as_json:
        document(_facts(made))
    else:
        line(f"schedule {made.name}: {_next(made)}")


def _warn_if_nothing_is_read(made: "Schedule") -> None:
    """Workers read the files of a report, and may have other settings; these here are all that can be seen."""
    files = made.spec.report is not None and made.spec.report.keys() & {"manifest", "folder", "attach"}
    if files and not settings_of_user().attachments_dirs:
        note("dispatcher: its files are read by workers, which need DISPATCHER_ATTACHMENTS_DIRS: it is not set here")


def _facts(found: "Schedule") -> dict[str, Any]:
    facts: dict[str, Any] = plain(found)
    return facts | {"spec": found.spec.document()}


def _when(spec: "ScheduleSpec") -> str:
    return f"{spec.cron} {spec.zone}" if spec.cron is not None else f"every {spec.every}"


def _what(spec: "ScheduleSpec") -> str:
    if spec.campaign is not None:
        return f"campaign: {spec.campaign.get('template')} to {spec.campaign.get('audience')}"
    if spec.report is not None:
        return f"report: {spec.report.get('manifest') or spec.report.get('manifest_command')}"
    mail = spec.submission or {}
    return f"mail: {mail.get('template') or mail.get('subject') or ''}"


def _next(found: "Schedule") -> str:
    if found.paused:
        return f"paused: {found.reason}" if found.reason else "paused"
    return "over" if found.next_at is None else f"next {_local(found.next_at, found.spec.zone)}"


def _local(at: float, zone: str) -> str:
    """``2027-03-28 03:00 +02:00``, by the clock of the zone; by UTC where this machine does not know it."""
    try:
        local = datetime.fromtimestamp(at, zone_of(zone))
    except ValueError:
        local = datetime.fromtimestamp(at, UTC)
    shown = local.strftime("%Y-%m-%d %H:%M" + (":%S" if local.second else ""))
    return f"{shown} {local.isoformat()[-6:]}"
