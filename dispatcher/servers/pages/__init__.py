"""Our pages for the people who get the mail: the one to unsubscribe, by hand or by one click (RFC 8058).

    GET  /unsubscribe/TOKEN     shows who leaves which list, and changes nothing: scanners follow links, too
    POST /unsubscribe/TOKEN     leaves it; the body is the mail client's, or that of a button of the page
    GET  /health                whether this process serves

A token that nobody has signed is not found: it names nothing that we know, and whoever tries learns no more than of any
other address. Every page works without scripts and without cookies.
"""

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from dispatcher.delivery import Actor
from dispatcher.errors import InvalidToken, LedgerUnavailable
from dispatcher.interfaces import Suppressions
from dispatcher.servers.pages.body import TooLarge, Unreadable, fields
from dispatcher.servers.pages.page import Page, language
from dispatcher.suppression import MARKETING, Reason, Suppression, of_list
from dispatcher.unsubscribe import PATH, read

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], object]

_ONE_CLICK = "list-unsubscribe", "one-click"
_RETRY_SECONDS = "60"
_MAX_AGENT = 200  # characters of a user agent that are kept


class _Fault(Exception):
    """There is no other answer than this status."""

    def __init__(self, status: HTTPStatus, **headers: str) -> None:
        super().__init__(status, headers)
        self.status, self.headers = status, headers


class Pages:
    """A WSGI application. ``keys`` verify tokens; ``public_url`` is its address, whose path a proxy may leave in."""

    def __init__(self, suppressions: Suppressions, keys: Sequence[str], public_url: str = "") -> None:
        self._suppressions, self._keys = suppressions, tuple(keys)
        self._prefix = urlsplit(public_url).path.rstrip("/")

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        page = Page(language(environ.get("HTTP_ACCEPT_LANGUAGE", "")))
        try:
            status, content, headers = HTTPStatus.OK, self._answer(environ, page), dict[str, str]()
        except _Fault as fault:
            status, content, headers = fault.status, page.fault(fault.status), fault.headers
        except LedgerUnavailable:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            content, headers = page.fault(status), {"Retry-After": _RETRY_SECONDS}
        raw = content.encode()
        given = {**page.headers, "Content-Length": str(len(raw)), **headers}
        start(f"{status.value} {status.phrase}", list(given.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [raw]

    def _answer(self, environ: Environ, page: Page) -> str:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if self._prefix and path.startswith(f"{self._prefix}/"):
            path = path.removeprefix(self._prefix)
        if path == "/health":
            _allow(method, "GET", "HEAD")
            return page.health()
        if not path.startswith(PATH):
            raise _Fault(HTTPStatus.NOT_FOUND)
        _allow(method, "GET", "HEAD", "POST")
        try:
            address, name = read(path.removeprefix(PATH), self._keys)
            visit = _Visit(self._suppressions, address, name, of_list(name), _agent(environ))
        except (InvalidToken, ValueError):
            raise _Fault(HTTPStatus.NOT_FOUND) from None
        done = visit.do(_wanted(environ)) if method == "POST" else ""
        left = visit.left()
        undoable = [what for what, reason in left.items() if reason is Reason.UNSUBSCRIBE]
        return page.unsubscribe(address, name, done=done, left=left, undoable=undoable)


class _Visit:
    """One request of one recipient about one list."""

    def __init__(self, suppressions: Suppressions, address: str, name: str, scope: str, agent: str) -> None:
        self._suppressions, self._address, self._name, self._agent = suppressions, address, name, agent
        self._scopes = {"list": scope, "marketing": MARKETING}

    def do(self, wanted: str) -> str:
        """``one-click``, ``list`` or ``marketing`` leave, ``undo-list`` and ``undo-marketing`` come back; doing it
        twice is doing it once."""
        verb, _, undone = wanted.partition("-")
        if verb == "undo":
            by = Actor("recipient", "page", f"undone by the recipient; {self._agent}")
            self._suppressions.remove(self._address, self._scopes[undone], by, reason=Reason.UNSUBSCRIBE)
            return wanted
        scope = self._scopes.get(wanted, self._scopes["list"])
        how = "one-click" if wanted == "one-click" else "page"
        evidence = f"{how}, list {self._name}; {self._agent}"
        self._suppressions.add([Suppression(self._address, scope, Reason.UNSUBSCRIBE, evidence, origin=how)])
        return wanted

    def left(self) -> dict[str, Reason]:
        """What the address gets no more (``list``, ``marketing``), and why."""
        standing = {each.scope: each.reason for each in self._suppressions.standing(self._address)}
        return {what: standing[scope] for what, scope in self._scopes.items() if scope in standing}


def _allow(method: str, *methods: str) -> None:
    if method not in methods:
        raise _Fault(HTTPStatus.METHOD_NOT_ALLOWED, Allow=", ".join(methods))


def _wanted(environ: Environ) -> str:
    """What a POST asks for."""
    try:
        given = fields(environ)
    except TooLarge:
        raise _Fault(HTTPStatus.REQUEST_ENTITY_TOO_LARGE) from None
    except Unreadable:
        raise _Fault(HTTPStatus.BAD_REQUEST) from None
    if any((name.lower(), value.strip().lower()) == _ONE_CLICK for name, value in given):
        return "one-click"
    act = dict(given).get("act", "")
    if act not in ("list", "marketing", "undo-list", "undo-marketing"):
        raise _Fault(HTTPStatus.BAD_REQUEST)
    return act


def _agent(environ: Environ) -> str:
    """The user agent, as evidence."""
    said = environ.get("HTTP_USER_AGENT", "").encode("latin-1", "replace").decode("utf-8", "replace")
    shown = "".join(each for each in said if each.isprintable())[:_MAX_AGENT]
    return f"user agent {shown or 'unknown'}"
