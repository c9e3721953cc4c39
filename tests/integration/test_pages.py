"""The page to unsubscribe, asked as a browser, a mail client and a scanner ask: what it shows, and what it changes."""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from dispatcher.errors import LedgerUnavailable
from dispatcher.memory import MemoryLedger
from dispatcher.servers.pages import Pages
from dispatcher.servers.pages.body import Unreadable, fields
from dispatcher.suppression import ALL, MARKETING, Reason, Suppression, of_list
from dispatcher.unsubscribe import token

KEY, OLD = "k" * 32, "o" * 32
LI = "li@example.com"
NEWS = of_list("news")
PATH = f"/unsubscribe/{token(LI, 'news', KEY)}"
ONE_CLICK = "List-Unsubscribe=One-Click"


@dataclass
class Answer:
    """What a page answered."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def heading(self) -> str:
        found = re.search("<h1[^>]*>(.*?)</h1>", self.body, re.DOTALL)
        return re.sub("<[^>]*>", "", found[1]) if found else ""

    @property
    def buttons(self) -> list[str]:
        return re.findall('value="([a-z-]+)"', self.body)


class Client:
    """Asks the pages of a ledger in memory, which ``down`` makes unreachable."""

    def __init__(self, public_url: str = "") -> None:
        self.ledger, self.down = MemoryLedger(), False
        self.app = Pages(self, (KEY, OLD), public_url)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise LedgerUnavailable("the disk is full")
        return getattr(self.ledger.suppressions, name)

    def __call__(self, path: str = PATH, body: bytes | str | None = None, method: str = "", **environ: str) -> Answer:
        content = body.encode() if isinstance(body, str) else body or b""
        given: dict[str, Any] = {
            "PATH_INFO": path,
            "wsgi.input": io.BytesIO(content),
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
        }
        given["REQUEST_METHOD"] = method or ("GET" if body is None else "POST")
        if body is not None:
            given |= {"CONTENT_LENGTH": str(len(content)), "CONTENT_TYPE": "application/x-www-form-urlencoded"}
        setup_testing_defaults(given)
        found: dict[str, Any] = {}

        def start(status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None) -> Any:
            found["status"], found["headers"] = int(status.split(maxsplit=1)[0]), dict(headers)
            return lambda _: None

        answer = validator(self.app)({**given, **environ}, start)  # type: ignore[arg-type]
        text = b"".join(answer).decode()
        answer.close()  # type: ignore[attr-defined]
        return Answer(found["status"], found["headers"], text)

    def press(self, button: str, **environ: str) -> Answer:
        return self(body=urlencode({"act": button}), **environ)

    def reasons(self, address: str = LI) -> dict[str, Reason]:
        return {each.scope: each.reason for each in self.ledger.suppressions.standing(address)}


@pytest.fixture
def client() -> Client:
    return Client()


# -- looking


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_changes_nothing(client: Client, method: str) -> None:
    answer = client(method=method)
    assert answer.status == 200
    assert client.reasons() == {}
    if method == "GET":
        assert answer.heading == "Unsubscribe from news?"
        assert LI in answer.body
        assert answer.buttons == ["list", "marketing"]
    else:
        assert answer.body == ""
        assert int(answer.headers["Content-Length"]) > 1000


def test_a_page_may_load_nothing_and_tells_nobody(client: Client) -> None:
    headers = client().headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Robots-Tag"] == "noindex"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("en-GB,zh;q=0.4", "en"),
        ("de;q=0.9, zh-TW;q=0.5", "zh-CN"),
        ("fr", "en"),
        ("zh;q=x, en;q=0.1", "en"),
        ("zh;q=0", "en"),
    ],
)
def test_it_speaks_the_readers_language(client: Client, accepted: str, language: str) -> None:
    answer = client(HTTP_ACCEPT_LANGUAGE=accepted)
    assert answer.headers["Content-Language"] == language
    assert f'<html lang="{language}">' in answer.body
    assert answer.heading.startswith("要退订“news”吗" if language == "zh-CN" else "Unsubscribe from news?")


def test_what_an_address_brings_is_text(client: Client) -> None:
    path = f"/unsubscribe/{token('<script>alert(1)</script>@example.com', '<b>', KEY)}"
    assert client(path).status == 404  # no list has such a name
    path = f"/unsubscribe/{token('<script>{address}@example.com', 'news', KEY)}"
    body = client(path).body
    assert "&lt;script&gt;{address}@example.com" in body
    assert "<script" not in body


def test_an_older_key_is_still_good(client: Client) -> None:
    assert client(f"/unsubscribe/{token(LI, 'news', OLD)}", ONE_CLICK).status == 200
    assert client.reasons() == {NEWS: Reason.UNSUBSCRIBE}


# -- leaving


def multipart(**fields: str) -> tuple[bytes, str]:
    parts = [
        f'--b0\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()
    ]
    return "".join([*parts, "--b0--\r\n"]).encode(), "multipart/form-data; boundary=b0"


@pytest.mark.parametrize("body", [ONE_CLICK, f"{ONE_CLICK}\r\n", "list-unsubscribe=one-click", f"a=b&{ONE_CLICK}"])
def test_one_click_leaves_the_list(client: Client, body: str) -> None:
    answer = client(body=body, HTTP_USER_AGENT="Mailer/1.0 " + "x" * 500 + "\x07")
    assert (answer.status, answer.heading) == (200, "You are unsubscribed")
    (held,) = client.ledger.suppressions.standing(LI)
    assert (held.scope, held.reason, held.origin, held.actor) == (NEWS, Reason.UNSUBSCRIBE, "one-click", None)
    assert held.evidence.startswith("one-click, list news; user agent Mailer/1.0 xxx")
    assert len(held.evidence) < 260
    assert client.ledger.acts() == []


def test_one_click_may_be_multipart(client: Client) -> None:
    body, kind = multipart(**{"List-Unsubscribe": "One-Click"})
    assert client(body=body, CONTENT_TYPE=kind).status == 200
    assert client.reasons() == {NEWS: Reason.UNSUBSCRIBE}


@pytest.mark.parametrize(("button", "scope"), [("list", NEWS), ("marketing", MARKETING)])
def test_a_button_of_the_page_leaves(client: Client, button: str, scope: str) -> None:
    assert client.press(button).heading == "You are unsubscribed"
    assert client.reasons() == {scope: Reason.UNSUBSCRIBE}
    assert client.ledger.suppressions.standing(LI)[0].evidence == "page, list news; user agent unknown"
    assert client().heading == "You are unsubscribed"


def test_leaving_twice_is_leaving_once(client: Client) -> None:
    client.press("list")
    before = client.ledger.suppressions.standing(LI)
    assert client(body=ONE_CLICK).status == 200
    assert client.press("list").status == 200
    assert client.ledger.suppressions.standing(LI) == before


@pytest.mark.parametrize(("button", "undo"), [("list", "undo-list"), ("marketing", "undo-marketing")])
def test_who_left_may_come_back_at_once(client: Client, button: str, undo: str) -> None:
    assert undo in client.press(button).buttons
    answer = client.press(undo, HTTP_USER_AGENT="Firefox")
    assert answer.heading == "You are back"
    assert client.reasons() == {}
    assert client.press(undo).status == 200
    (act,) = client.ledger.acts()
    assert (act.actor, act.act) == ("recipient@page", "allow")
    assert act.reason == "undone by the recipient; user agent Firefox"


@pytest.mark.parametrize(
    ("scope", "reason"), [(ALL, Reason.BOUNCE), (NEWS, Reason.HAND), (MARKETING, Reason.COMPLAINT)]
)
def test_nobody_undoes_what_was_not_their_own_choice(client: Client, scope: str, reason: Reason) -> None:
    client.ledger.suppressions.add([Suppression(LI, scope, reason)])
    assert not [button for button in client().buttons if button.startswith("undo")]
    for undo in ("undo-list", "undo-marketing"):
        assert client.press(undo).status == 200
    assert client.reasons() == {scope: reason}


def test_the_address_of_the_token_is_the_one_that_leaves(client: Client) -> None:
    client(f"/unsubscribe/{token('Wang@example.com', 'News', KEY)}", ONE_CLICK)
    assert client.reasons("wang@example.com") == {NEWS: Reason.UNSUBSCRIBE}
    assert client.reasons() == {}


# -- what is wrong


@pytest.mark.parametrize(
    "path",
    [
        f"{PATH[:-1]}{'A' if PATH[-1] != 'A' else 'B'}",
        PATH[:-4],
        "/unsubscribe/",
        "/unsubscribe/x",
        f"/unsubscribe/{token(LI, 'news', 'x' * 32)}",
        f"{PATH}/",
        "/unsubscribe/\xff",
    ],
)
@pytest.mark.parametrize("body", [None, ONE_CLICK, "act=list"])
def test_a_token_that_nobody_signed_is_not_found_and_changes_nothing(
    client: Client, path: str, body: str | None
) -> None:
    answer = client(path, body)
    assert (answer.status, answer.heading) == (404, "This link does not work")
    assert client.ledger.suppressions.count() == 0


@pytest.mark.parametrize("path", ["/", "/unsubscribe", "/favicon.ico", "/../etc/passwd"])
def test_there_is_no_other_page(client: Client, path: str) -> None:
    assert client(path).status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_no_other_method_is_known(client: Client, method: str) -> None:
    answer = client(method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    "body", ["", "act=", "act=everything", "List-Unsubscribe=Two-Clicks", b"\xff\xfe", "a=b&" * 50]
)
def test_a_body_that_asks_for_nothing_known_changes_nothing(client: Client, body: bytes | str) -> None:
    assert client(body=body).status == 400
    assert client.reasons() == {}


@pytest.mark.parametrize("boundary", ["", "; boundary=other", "; boundary="])
def test_a_multipart_body_that_is_none_changes_nothing(client: Client, boundary: str) -> None:
    assert client(body=b"--b0\r\n\r\nx", CONTENT_TYPE=f"multipart/form-data{boundary}").status == 400
    assert client.reasons() == {}


def test_a_body_without_end_is_not_read(client: Client) -> None:
    assert client(body=f"{ONE_CLICK}&x={'x' * 65_536}").status == 413
    assert client.reasons() == {}


@pytest.mark.parametrize("length", ["-1", "many", "²"])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(Unreadable):
        fields({"CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(b"act=list")})


@pytest.mark.parametrize("body", [None, ONE_CLICK, "act=undo-list"])
def test_while_the_ledger_is_away_a_client_is_told_to_come_again(client: Client, body: str | None) -> None:
    client.down = True
    answer = client(body=body)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    assert answer.heading == "Not possible right now"


def test_a_proxy_may_leave_the_path_of_our_address_in() -> None:
    client = Client("https://example.com/mail")
    assert client(f"/mail{PATH}").status == 200
    assert client(PATH).status == 200
    assert client(f"/other{PATH}").status == 404


def test_health_is_answered_without_the_ledger(client: Client) -> None:
    client.down = True
    assert (client("/health").status, client("/health").body) == (200, "ok\n")
