"""A mail's bytes, built again as they were sent."""

import sys
from typing import TYPE_CHECKING, Any

from dispatcher.cli.output import note
from dispatcher.delivery import Selector
from dispatcher.errors import ConfigurationError, MissingData, NotFound, RenderError

if TYPE_CHECKING:
    from dispatcher.delivery import LeasedMessage
    from dispatcher.dispatcher import Dispatcher
    from dispatcher.interfaces import Ledger
    from dispatcher.mail import Message
    from dispatcher.render import Template

_NAMED = 20


def show_raw(dispatcher: "Dispatcher", name: str) -> None:
    """Print the bytes on stdout, and on stderr whether they are the ones that were sent."""
    leased = _one_message(dispatcher.ledger, name)
    message = _rebuilt(dispatcher, leased)
    sys.stdout.buffer.write(message.content)
    sys.stdout.buffer.flush()
    note(f"dispatcher: {_compared(leased, message)}")


def _one_message(ledger: "Ledger", name: str) -> "LeasedMessage":
    messages = {record.message_id: record.id for record in ledger.find(Selector(ids=(name,), limit=_NAMED))}
    if len(messages) != 1:
        raise ConfigurationError(name, f"is more than one mail; name one of them: {', '.join(messages)}")
    (leased,) = ledger.message(next(iter(messages.values()))).messages
    return leased


def _rebuilt(dispatcher: "Dispatcher", leased: "LeasedMessage") -> "Message":
    """Raises ConfigurationError when it must not be printed, or cannot be built any more."""
    from dispatcher.compose import Sources, compose  # noqa: PLC0415 - --help needs none of it
    from dispatcher.making import kept  # noqa: PLC0415 - as above
    from dispatcher.render import compiled  # noqa: PLC0415 - as above
    from dispatcher.template import TemplateVersion  # noqa: PLC0415 - as above

    def template(digest: str) -> "Template":
        return compiled(digest, lambda: TemplateVersion(*dispatcher.ledger.template(digest)))

    data = {**leased.shared.get("data", {}), **leased.own.get("data", {})}
    found = None if leased.template is None else template(leased.template)
    if found is not None and found.split(data)[1] is not None:
        raise ConfigurationError(
            leased.public_id, "cannot be shown: it has x-sensitive variables, which are never printed"
        )
    try:
        keys = dispatcher.policy.secret_keys
        sources = Sources(template, dispatcher.blobs.get, keys, lambda leased: kept(dispatcher.ledger.reports, leased))
        return compose(leased, sources)
    except RenderError as error:
        raise ConfigurationError(leased.public_id, _why_not(found, data, error)) from None
    except NotFound as error:
        raise ConfigurationError(leased.public_id, f"cannot be built again: {error}") from None


def _why_not(template: "Template | None", data: dict[str, Any], error: RenderError) -> str:
    try:
        if template is not None:
            template.check(data)
    except MissingData as missing:
        return f"cannot be built again: {missing}; what is x-sensitive was wiped when it was settled"
    return f"cannot be built again: {error}"


def _compared(leased: "LeasedMessage", message: "Message") -> str:
    from dispatcher.compose import fingerprint  # noqa: PLC0415 - --help needs none of it

    if leased.sha256 is None:
        return "never sent so far: these bytes would be"
    if leased.sha256 == message.sha256:
        return "same bytes"
    if leased.build != fingerprint():
        return f"built by another version ({leased.build}): these bytes are not those that were sent"
    return "these bytes are not those that were sent, although the build is the same"
