"""``dispatcher send``: one mail."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.opening import json_argument, moment, opened, pairs, read_text, settings_of_user, warn_if_unserved
from dispatcher.cli.output import Json, count, document, line, note
from dispatcher.cli.wait import patiently
from dispatcher.delivery import LIVE, Selector, State

if TYPE_CHECKING:
    from dispatcher.dispatcher import Dispatcher
    from dispatcher.interfaces import Ledger
    from dispatcher.mail import Receipt

EXAMPLE = 'Example: dispatcher send --to ann@example.com --template welcome --data \'{"customer": {"name": "Ann"}}\''
_Many = list[str] | None
_NOT_SENT_SHOWN = 20


def send(  # noqa: PLR0917 - a mail has many parts, and each is an option
    to: Annotated[_Many, typer.Option("--to", metavar="ADDRESS", help="A recipient; as often as needed.")] = None,
    cc: Annotated[_Many, typer.Option("--cc", metavar="ADDRESS", help="A recipient of a copy.")] = None,
    bcc: Annotated[_Many, typer.Option("--bcc", metavar="ADDRESS", help="A recipient whom nobody sees.")] = None,
    template: Annotated[str | None, typer.Option("--template", metavar="NAME", help="The template's name.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON|FILE", help="Its data: JSON, or a file of JSON (- is stdin).")
    ] = None,
    locale: Annotated[
        str | None, typer.Option("--locale", metavar="TAG", help="The reader's language, such as zh-CN.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="TEXT", help="The subject, without a template.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="The plain text; @FILE reads it from a file.")
    ] = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="HTML", help="The HTML; @FILE reads it from a file.")
    ] = None,
    attach: Annotated[
        _Many, typer.Option("--attach", metavar="FILE", help="A file to attach; as often as needed.")
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--from", metavar="ADDRESS", help="The sender, if not DISPATCHER_FROM.")
    ] = None,
    reply_to: Annotated[_Many, typer.Option("--reply-to", metavar="ADDRESS", help="Where replies go.")] = None,
    header: Annotated[
        _Many, typer.Option("--header", metavar="NAME=VALUE", help="NAME=VALUE, a further header.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Not before: 2026-12-01T09:00, or +90s.")
    ] = None,
    lane: Annotated[
        str | None, typer.Option("--lane", metavar="LANE", help="transactional (the default) or bulk.")
    ] = None,
    relay: Annotated[str | None, typer.Option("--relay", metavar="NAME", help="This relay and no other.")] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same key never sends twice.")
    ] = None,
    tag: Annotated[
        _Many, typer.Option("--tag", metavar="WORD", help="A word to find it by; as often as needed.")
    ] = None,
    metadata: Annotated[
        _Many, typer.Option("--metadata", metavar="NAME=VALUE", help="NAME=VALUE, kept with the mail.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is settled; exit 0 only if it was sent.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Seconds for --wait; then exit 3.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send one mail.

    It goes to all of --to, --cc and --bcc: a template with its data, or a subject with text or HTML.
    """
    mail: dict[str, Any] = {
        "to": to, "cc": cc, "bcc": bcc, "template": template, "locale": locale, "subject": subject,
        "text": _content(text, "--text"), "html": _content(html, "--html"), "from": sender, "reply_to": reply_to,
        "headers": dict(pairs(header or (), "--header")) or None, "lane": lane, "relay": relay,
        "idempotency_key": key, "tags": tag, "metadata": dict(pairs(metadata or (), "--metadata")) or None,
        "data": json_argument(data, "--data"), "attachments": [{"path": path} for path in attach or ()] or None,
        "send_at": None if at is None else datetime.fromtimestamp(moment(at, "--at"), UTC).isoformat(),
    }  # fmt: skip
    settings = settings_of_user()
    with opened(settings, paths="anywhere") as dispatcher:
        receipt = dispatcher.submit({name: value for name, value in mail.items() if value is not None})
        if not as_json:
            _show(receipt)
        unserved = warn_if_unserved(dispatcher, settings)
        states = _settled(dispatcher, receipt, timeout, unserved=unserved) if wait else None
    if as_json:
        document(receipt.document() | ({} if states is None else {"states": states}))
    if states is not None and set(states) != {State.SENT}:
        raise typer.Exit(1)


def _content(text: str | None, option: str) -> str | None:
    return read_text(text[1:], option) if text and text.startswith("@") else text


def _show(receipt: "Receipt") -> None:
    if receipt.duplicate:
        line(f"{receipt.id}\tduplicate of what was accepted before, {receipt.state}")
    else:
        line(f"{receipt.id}\taccepted for {count(receipt.accepted, 'recipient')}, {receipt.state}")


def _settled(
    dispatcher: "Dispatcher", receipt: "Receipt", timeout: float | None, *, unserved: bool
) -> dict[State, int]:
    """Wait for all its recipients; say what became of those whose mail was not sent."""
    ledger = dispatcher.ledger
    until = None if timeout is None else time.monotonic() + timeout
    late = "not settled yet" + (", and no worker serves this ledger" if unserved else "")
    try:
        patiently(lambda: not LIVE & set(ledger.submission(receipt.id).states), until, late, pause=0.05)
    except typer.Exit:
        _say_why(ledger, receipt)
        raise
    for record in ledger.find(Selector(ids=(receipt.id,), limit=_NOT_SENT_SHOWN)):
        if record.state is State.SENT:
            note(f"dispatcher: {record.rcpt}: sent")
        else:
            reply = " ".join(filter(None, (str(record.code or ""), record.enhanced, record.text)))
            note(f"dispatcher: {record.rcpt}: {record.state}: {reply}")
    return ledger.submission(receipt.id).states


def _say_why(ledger: "Ledger", receipt: "Receipt") -> None:
    """What its mail waits for, as far as that is known."""
    concerned = {receipt.id, ledger.submission(receipt.id).lane}
    for pause in ledger.pauses():
        if pause.kind == "relay" or pause.name in concerned:
            note(f"dispatcher: {pause.kind} {pause.name} is paused: {pause.reason or 'no reason given'}")
    for record in ledger.find(Selector(ids=(receipt.id,), states=tuple(sorted(LIVE)), limit=_NOT_SENT_SHOWN)):
        note(f"dispatcher: {record.rcpt}: {record.state}{f': {record.text}' if record.text else ''}")
