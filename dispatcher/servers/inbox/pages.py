"""The pages of the inbox. What a mail brings is shown in a frame without scripts that may load nothing."""

import ipaddress
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zlib import crc32

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

from dispatcher.servers.inbox.content import Content
from dispatcher.servers.inbox.listing import PAGE, Listing
from dispatcher.servers.recording import Received

_FOLDER = Path(__file__).parent
_TINTS = 8
_RAW_SHOWN = 200_000  # bytes; the download has all of them
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A mail: no scripts, no forms, nothing from elsewhere. Links open windows of their own.
_MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Server": "dispatcher",
}


def application(listing: Listing, relay_url: str) -> Application:
    """All pages. ``relay_url`` is shown while there is no mail."""
    pages = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(size=_size, utc=_utc, tint=lambda text: crc32(str(text).encode()) % _TINTS)
    given = {"listing": listing, "pages": pages, "relay_url": relay_url}
    number = r"/mail/([0-9]{1,15})"
    return Application(
        [
            (r"/", _List, given),
            (r"/newest", _Newest, given),
            (rf"{number}(?:/(html|text|headers|raw))?", _Mail, given),
            (rf"{number}/frame", _Frame, given),
            (rf"{number}/source", _Source, given),
            (rf"{number}/attachment/([0-9]{{1,5}})", _Attachment, given),
            (r"/(inbox\.css|inbox\.js|inbox\.svg)", _Static, {"path": str(_FOLDER)}),
        ],
        default_handler_class=_Nowhere,
        default_handler_args=given,
        log_function=lambda _: None,
    )


class _Page(RequestHandler):
    def initialize(self, listing: Listing, pages: Environment, relay_url: str) -> None:
        self._listing, self._pages, self._relay_url = listing, pages, relay_url

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        if not _is_local(self.request.host_name):
            raise HTTPError(403, reason="Ask for this inbox by its IP address, or by a host name without a dot")

    def show(self, template: str, **values: Any) -> None:
        self.finish(self._pages.get_template(template).render(values | {"total": self._listing.newest}))

    def write_error(self, status_code: int, **_: Any) -> None:
        self.show("fault.html", status=status_code, reason=self._reason, query="")

    def received(self, number: str) -> Received:
        try:
            return self._listing.mail(int(number))
        except KeyError:
            raise HTTPError(404, reason=f"There is no mail {number}") from None


class _List(_Page):
    def get(self) -> None:
        query, before = self.get_query_argument("q", "").strip(), self.get_query_argument("before", "")
        if before and not re.fullmatch("[0-9]{1,15}", before):
            raise HTTPError(400, reason="before is the number of a mail")
        found = self._listing.page(query, int(before) if before else None)
        shown = found[:PAGE]
        older = urlencode({"before": shown[-1].number} | ({"q": query} if query else {})) if len(found) > PAGE else ""
        self.show("list.html", mails=shown, query=query, before=before, older=older, relay_url=self._relay_url)


class _Newest(_Page):
    """What an open list asks every few seconds."""

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"newest": self._listing.newest}))


class _Mail(_Page):
    def get(self, number: str, view: str | None) -> None:
        received = self.received(number)
        content = Content.of(received.content)
        self.show(
            "mail.html",
            number=int(number),
            received=received,
            content=content,
            view=view or ("html" if content.html is not None else "text"),
            raw=received.content[:_RAW_SHOWN].decode("utf-8", "replace"),
            cut=len(received.content) > _RAW_SHOWN,
            query="",
        )


class _Frame(_Page):
    def get(self, number: str) -> None:
        self.set_header("Content-Security-Policy", _MAIL_POLICY)
        self.finish(Content.of(self.received(number).content).document)


class _Source(_Page):
    def get(self, number: str) -> None:
        self.set_header("Content-Type", "message/rfc822")
        self.set_header("Content-Disposition", f'attachment; filename="mail-{number}.eml"')
        self.finish(self.received(number).content)


class _Attachment(_Page):
    def get(self, number: str, nth: str) -> None:
        attachments = Content.of(self.received(number).content).attachments
        if not 0 < int(nth) <= len(attachments):
            raise HTTPError(404, reason=f"Mail {number} has no attachment {nth}")
        attachment = attachments[int(nth) - 1]
        self.set_header("Content-Security-Policy", "sandbox; default-src 'none'")
        self.set_header("Content-Type", attachment.content_type)
        self.set_header("Content-Disposition", attachment.disposition)
        self.finish(attachment.content)


class _Nowhere(_Page):
    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404, reason="There is no such page")


class _Static(StaticFileHandler):
    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's hook
        for name, value in _HEADERS.items():
            self.set_header(name, value)


def _is_local(host: str) -> bool:
    """Whether a web page elsewhere cannot have this name point at us (DNS rebinding): an address, or without a dot."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return "." not in host or host.endswith(".localhost")
    return True


def _size(count: int) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count} B"


def _utc(time: float, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return datetime.fromtimestamp(time, UTC).strftime(form)
