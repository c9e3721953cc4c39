"""What ``doctor`` says about templates: whether they render, and whether this host's are the published ones."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.finding import FAIL, OK, WARN, Finding
from dispatcher.cli.opening import opened_ledger
from dispatcher.errors import LedgerError

if TYPE_CHECKING:
    from dispatcher.settings import Settings


def templates(settings: "Settings") -> Iterator[Finding]:
    """Each of this host's in each of its locales, then each that was published."""
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.cli.soundness import checked  # noqa: PLC0415 - as above

    folder = bootstrap.templates(settings)
    names = folder.names()
    results = [result for name in names for result in checked(name)]
    bad = {str(result["template"]): str(result["reason"]) for result in results if not result["ok"]}
    for name, reason in bad.items():
        yield Finding("templates", FAIL, f"{name}: {reason}", f"correct {name}")
    if not bad:
        yield Finding("templates", OK, f"{len(names)} templates render their samples in {len(results)} locales")
    try:
        with opened_ledger(settings) as ledger:
            published = ledger.publications()
    except LedgerError:  # told in the ledger's own line
        return
    for name in sorted(set(names) & published.keys() - bad.keys()):
        if folder.load(name).digest != published[name].digest:
            found = f"{name} in the folder differs from the published version, which new mail is rendered with"
            yield Finding("published", WARN, found, f"`dispatcher templates publish {name}`, or update the folder")
