"""``dispatcher templates publish`` and ``versions``: which versions new mail is rendered with, on all servers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.opening import actor, opened_ledger, settings_of_user
from dispatcher.cli.output import Json, Reason, Yes, confirmed, count, document, line, note, plain, table, when
from dispatcher.cli.soundness import checked_version
from dispatcher.errors import DispatcherError, NotFound, UnknownTemplate
from dispatcher.template import TemplateVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dispatcher.adapters.folder import TemplateFolder
    from dispatcher.interfaces import Ledger

SHORT = 12  # digits of a digest that a person reads
Names = Annotated[list[str] | None, typer.Argument(metavar="[TEMPLATE]...", help="Templates; all by default.")]
Version = Annotated[
    str | None,
    typer.Option(
        "--version", metavar="DIGEST", help="An older version of one template, as `templates versions` shows them."
    ),
]


def publish(
    names: Names = None, version: Version = None, reason: Reason = "", *, yes: Yes = False, as_json: Json = False
) -> None:
    """Put the templates of this machine into the ledger, so that every server renders new mail with these versions.

    They are checked first; where one is broken nothing is published (exit 1). A template that was published once is
    rendered as it was published last, whatever its folder says. What is published already stays as it is.
    """
    settings = settings_of_user()
    with opened_ledger(settings) as ledger:
        chosen = _on_disk(names) if version is None else [_kept(ledger, names, version)]
        _refuse_broken(chosen)
        before = {name: found.digest for name, found in ledger.publications().items()}
        changes = [each for each in chosen if before.get(each.name) != each.digest]
        for each in changes:
            note(
                f"dispatcher: {each.name}: {_short(before.get(each.name)) or 'not published'} -> {_short(each.digest)}"
            )
        if changes:
            confirmed(f"{count(len(changes), 'template')} will be published for all new mail", yes=yes)
        made = ledger.publish(changes, actor(reason)) if changes else []
    if as_json:
        document({"published": [{**plain(each), "before": before.get(each.name)} for each in made]})
        return
    if made:
        table(
            ("published", "version", "before"),
            [(done.name, _short(done.digest), _short(before.get(done.name))) for done in made],
        )
    else:
        line(f"nothing to publish: {count(len(chosen), 'template')} as published already")


def versions(name: Annotated[str, typer.Argument(metavar="TEMPLATE")], as_json: Json = False) -> None:
    """List the versions of a template that the ledger keeps, newest first, to go back to one with publish --version."""
    with opened_ledger() as ledger:
        published = ledger.publications().get(name)
        kept = ledger.template_versions(name)
    here = _here(name, must_be_known=not kept)
    found: list[dict[str, Any]] = [
        {
            "digest": digest,
            "kept_at": at,
            "published": published is not None and published.digest == digest,
            "here": digest == here,
        }
        for digest, at in kept
    ]
    if as_json:
        document(found)
        return
    table(
        ("version", "kept since", "published", "in the folder"),
        [(_short(f["digest"]), when(f["kept_at"]), _yes(f["published"]), _yes(f["here"])) for f in found],
    )
    if not found:
        note(f"dispatcher: no version of {name} is kept yet: it is when it is published, or with its first mail")


def _on_disk(names: list[str] | None) -> list[TemplateVersion]:
    """What this machine has. Ends the command when some cannot be read; raises UnknownTemplate."""
    folder = _folder()
    found, broken = [], False
    for name in dict.fromkeys(names or folder.names()):
        try:
            found.append(folder.load(name))
        except UnknownTemplate:
            raise
        except DispatcherError as error:
            note(f"dispatcher: {error}")
            broken = True
    if broken:
        _nothing_published()
    return found


def _kept(ledger: "Ledger", names: list[str] | None, prefix: str) -> TemplateVersion:
    """The version of the one template whose digest begins so. Raises NotFound."""
    if not names or len(names) != 1:
        raise typer.BadParameter("name the one template whose version it is", param_hint="--version")
    digests = [digest for digest, _ in ledger.template_versions(names[0]) if digest.startswith(prefix.lower())]
    if len(digests) != 1:
        which = "more than one" if digests else "no"
        raise NotFound(
            f"{which} version of {names[0]} that is kept begins with {prefix[:64]!r}; "
            f"see `dispatcher templates versions {names[0]}`"
        )
    return TemplateVersion(*ledger.template(digests[0]))


def _refuse_broken(versions: "Sequence[TemplateVersion]") -> None:
    bad = [result for version in versions for result in checked_version(version) if not result["ok"]]
    for result in bad:
        where = f" ({result['locale']})" if result["locale"] else ""
        note(f"dispatcher: {result['template']}{where}: {result['reason']}")
    if bad:
        _nothing_published()


def _nothing_published() -> None:
    note("dispatcher: nothing was published")
    raise typer.Exit(1)


def _folder() -> "TemplateFolder":
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it

    return bootstrap.templates(settings_of_user())


def _here(name: str, *, must_be_known: bool) -> str | None:
    """The digest of the version on this machine; None when it has none, or one that cannot be read."""
    try:
        return _folder().load(name).digest
    except UnknownTemplate:
        if must_be_known:
            raise
    except DispatcherError:
        pass
    return None


def _short(digest: Any) -> str:
    return str(digest or "")[:SHORT]


def _yes(found: object) -> str:
    return "yes" if found else ""
