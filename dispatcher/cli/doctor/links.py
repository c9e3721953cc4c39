"""What ``doctor`` says about the links in mails: who can follow them, and who signs them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.finding import OK, WARN, Finding
from dispatcher.errors import ConfigurationError, LedgerUnavailable

if TYPE_CHECKING:
    from dispatcher.settings import Settings

_SHOWN = 3


def links(settings: "Settings") -> Iterator[Finding]:
    """Of lists that were used lately: without any, nobody needs them."""
    from dispatcher.adapters.sql.inspecting import lists  # noqa: PLC0415 - --help needs none of it

    try:
        used = lists(settings.ledger)
    except (ConfigurationError, LedgerUnavailable):
        return  # the ledger's own line says so
    if settings.ledger.startswith("postgresql") and not settings.secret_keys:
        found = "signed with a key that this host made for itself: pages on another host would not know them"
        yield Finding("links", WARN, found, "set DISPATCHER_SECRET_KEYS, the same on every host")
    elif used and not settings.pages_url.startswith("https://"):
        found = f"mail of {', '.join(used[:_SHOWN])} leads to {settings.pages_url}, which is not https"
        yield Finding("links", WARN, found, "set DISPATCHER_PUBLIC_URL=https://..., the address of our pages")
    else:
        yield Finding("links", OK, settings.pages_url if used else "none is needed: no mail is for a list")
