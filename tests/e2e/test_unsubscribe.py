"""A reader leaves a list, on a telephone and by one click: the next newsletter passes by, an order confirmation comes.

Screenshots go to the folder in DISPATCHER_SCREENSHOTS, if that is set.
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from dispatcher.servers.recording import Received
from tests import orders
from tests.commands import ORDER, QuickStack
from tests.e2e.browser import View, chromium, view
from tests.processes import sink_process
from tests.servers import free_port
from tests.waiting import wait_for

pytestmark = pytest.mark.server

READABLE = 4.5  # WCAG 2.2, 1.4.3, level AA
WINDOWS = [(width, scheme) for width in (360, 1200) for scheme in ("light", "dark")]
LISTS = {"template": "birthday", "data": {"customer": {"name": "Ada"}}, "lane": "bulk", "from": "shop@example.com"}
CONFIRMATION = {name: value for name, value in ORDER.items() if name != "to"} | {"lane": "transactional"}
ONE_CLICK = b"List-Unsubscribe=One-Click"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


class Shop:
    """A stack with its pages, and a mailbox for everybody."""

    def __init__(self, stack: QuickStack, record: Path) -> None:
        self.stack, self._record = stack, record

    def submit(self, to: str, **fields: Any) -> str:
        """The state of the only recipient, once it is settled."""
        done = self.stack.run("submit", "-", stdin=json.dumps({**LISTS, "to": [to], **fields}) + "\n")
        assert done.returncode == 0, done.stderr
        self.stack.run("wait", "--idle", "--timeout", "30")
        state: str = self.stack.json("messages", "list", "--to", to, "--limit", "1")[0]["state"]
        return state

    def received(self, to: str) -> list[Received]:
        return [each for each in orders.read(self._record) if to in each.rcpt_to]

    def link(self, to: str) -> str:
        """Of the last mail to this address."""
        last = wait_for(lambda: self.received(to))[-1]
        mail = message_from_bytes(last.content, policy=policy.default)
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        link = str(mail["List-Unsubscribe"]).strip("<>")
        html = mail.get_body(("html",))  # type: ignore[attr-defined]
        assert link in html.get_content()
        return link

    def standing(self, to: str) -> list[tuple[str, str, str]]:
        found = self.stack.json("suppressions", "list")
        return [(each["scope"], each["reason"], each["origin"]) for each in found if each["address"] == to]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with sink_process(folder / "sink.jsonl") as url:
        environment = {
            "DISPATCHER_DATA_DIR": str(folder / "var"),
            "DISPATCHER_RELAY_URL": url,
            "DISPATCHER_PAGES__ENABLED": "true",
            "DISPATCHER_PAGES__LISTEN": f"127.0.0.1:{free_port()}",
        }
        with QuickStack(environment, "--no-flower") as stack:
            wait_for(lambda: _answers(f"http://{environment['DISPATCHER_PAGES__LISTEN']}/health"))
            yield Shop(stack, folder / "sink.jsonl")


def _answers(url: str) -> bool:
    try:
        return post(url, None) == 200
    except urllib.error.URLError:
        return False


def post(url: str, body: bytes | None, kind: str = "application/x-www-form-urlencoded") -> int:
    request = urllib.request.Request(url, body, {"Content-Type": kind} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_a_reader_leaves_a_list_by_its_page(
    shop: Shop, browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    reader, shots = f"page-{width}-{scheme}@example.com", Path(os.environ.get("DISPATCHER_SCREENSHOTS") or tmp_path)
    assert shop.submit(reader, list="birthdays") == "sent"
    with view(browser, width, scheme) as window:
        window.page.goto(shop.link(reader))
        assert reader in window.text()
        _is_well_made(window)
        window.shoot(shots / f"unsubscribe-{width}-{scheme}.png")
        assert shop.standing(reader) == []  # looking changes nothing

        window.page.get_by_role("button", name="Unsubscribe").click()
        window.page.get_by_role("heading", name="You are unsubscribed").wait_for()
        _is_well_made(window)
        window.shoot(shots / f"unsubscribed-{width}-{scheme}.png")
        assert shop.standing(reader) == [("list:birthdays", "unsubscribe", "page")]
        assert shop.submit(reader, list="birthdays") == "suppressed"
        assert shop.submit(reader, **CONFIRMATION) == "sent"

        window.page.get_by_role("button", name="Undo").click()
        window.page.get_by_role("heading", name="You are back").wait_for()
        assert shop.standing(reader) == []
        assert shop.submit(reader, list="birthdays") == "sent"
        assert {url.partition("/unsubscribe/")[0] for url in window.requests} == {
            shop.link(reader).partition("/unsubscribe/")[0]
        }


def _is_well_made(window: View) -> None:
    assert window.overflow() == 0
    assert window.missing() == ""
    assert [text for text, ratio in window.contrasts() if ratio < READABLE] == []
    small = window.page.evaluate(
        "[...document.querySelectorAll('button')].filter(b => b.getBoundingClientRect().height < 44).length"
    )
    assert small == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_one_click_leaves_a_list_and_nothing_else(shop: Shop) -> None:
    reader = "click@example.com"
    assert shop.submit(reader, list="birthdays") == "sent"
    link = shop.link(reader)
    for _ in range(2):
        assert post(link, ONE_CLICK) == 200
    body = b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n'
    assert post(link, body, "multipart/form-data; boundary=b") == 200
    assert shop.standing(reader) == [("list:birthdays", "unsubscribe", "one-click")]
    assert shop.submit(reader, list="birthdays") == "suppressed"
    assert shop.submit(reader, list="offers") == "sent"
    assert shop.submit(reader, **CONFIRMATION) == "sent"
    assert len(shop.received(reader)) == 3


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_link_that_was_changed_is_refused(shop: Shop, browser: Browser) -> None:
    reader = "changed@example.com"
    assert shop.submit(reader, list="birthdays") == "sent"
    link = shop.link(reader)
    head, _, token = link.rpartition("/")
    for changed in (token[:-1], token[:40] + ("A" if token[40] != "A" else "B") + token[41:], token.swapcase()):
        assert post(f"{head}/{changed}", ONE_CLICK) == 404
        with view(browser, 360, "light") as window:
            window.page.goto(f"{head}/{changed}")
            window.page.get_by_role("heading", name="This link does not work").wait_for()
            assert window.page.get_by_role("button").count() == 0
            _is_well_made(window)
    assert shop.standing(reader) == []
    assert shop.submit(reader, list="birthdays") == "sent"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_reader_stops_all_marketing_mail(shop: Shop, browser: Browser) -> None:
    reader = "all@example.com"
    assert shop.submit(reader, list="birthdays") == "sent"
    with view(browser, 360, "light") as window:
        window.page.goto(shop.link(reader))
        window.page.get_by_role("button", name="Stop all marketing mail").click()
        window.page.get_by_role("heading", name="You are unsubscribed").wait_for()
    assert shop.standing(reader) == [("marketing", "unsubscribe", "page")]
    assert shop.submit(reader, list="offers") == "suppressed"
    assert shop.submit(reader, **CONFIRMATION) == "sent"
