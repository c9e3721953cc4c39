"""The sink's inbox as its user sees it, on a telephone and a desktop, light and dark; and hostile mail in it.

Screenshots go to the folder in DISPATCHER_SCREENSHOTS, if that is set.
"""

import os
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error

from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.servers.inbox import Inbox
from dispatcher.servers.recording import Received, Recording
from tests.e2e.browser import View, chromium, view

pytestmark = pytest.mark.server

WINDOWS = [(width, scheme) for width in (360, 1200) for scheme in ("light", "dark")]
READABLE = 4.5  # WCAG 2.2, 1.4.3, level AA
LONG = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft"
EVIL = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def window(browser: Browser, width: int, scheme: str) -> Iterator[View]:
    with view(browser, width, scheme) as opened:
        yield opened


@pytest.fixture
def desk(browser: Browser) -> Iterator[View]:
    with view(browser, 1200, "light") as opened:
        yield opened


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return Path(os.environ.get("DISPATCHER_SCREENSHOTS") or tmp_path)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    found = Recording(tmp_path / "sink.jsonl")
    yield found
    found.close()


@pytest.fixture
def inbox(recording: Recording, tmp_path: Path) -> Iterator[Inbox]:
    with Inbox(tmp_path / "sink.jsonl", relay_url="smtp://127.0.0.1:2525?tls=none") as found:
        yield found


def take(recording: Recording, subject: str, html: str = "", to: str = "ada@example.com", filename: str = "") -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "Shop <shop@example.com>", to
    mail.set_content("Hello,\nsee https://shop.example.com/orders\n")
    if html:
        mail.add_alternative(html, subtype="html")
    if filename:
        mail.add_attachment(b"<script>alert(1)</script>", maintype="text", subtype="html", filename=filename)
    recording.append(Received.of(1795000000.0, "shop@example.com", (to,), mail.as_bytes().replace(b"\n", b"\r\n")))


def show(window: View, inbox: Inbox, path: str, *, mails: int) -> None:
    """Open a page once so many mails are listed."""
    window.page.goto(inbox.url)
    window.page.locator("#total").get_by_text(str(mails), exact=True).wait_for(timeout=10_000)
    window.page.goto(f"{inbox.url}{path}")


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_every_page_fits_its_window_and_can_be_read(
    window: View, inbox: Inbox, recording: Recording, shots: Path, width: int, scheme: str
) -> None:
    take(recording, LONG, to=f"{LONG[:60]}@example.com", filename=f"{LONG}.html")
    for number in range(12):
        take(recording, f"Order SO-{1000 + number} is confirmed", to=f"buyer{number}@example.com")
    take(recording, "您的订单 SO-1001 已确认 预计周五送达", "<h1>谢谢</h1>", "li@example.com", "发票.pdf")
    pages = {
        "list": "/", "found": "/?q=li%40", "nothing": "/?q=nobody", "html": "/mail/14", "text": "/mail/1/text",
        "headers": "/mail/1/headers", "source": "/mail/14/raw", "missing": "/mail/99",
    }  # fmt: skip
    for name, path in pages.items():
        show(window, inbox, path, mails=14)
        assert window.overflow() == 0, name
        assert [text for text, ratio in window.contrasts() if ratio < READABLE] == [], name
        assert window.missing() == "", name
        window.shoot(shots / f"inbox-{name}-{width}-{scheme}.png")


def test_new_mail_appears_by_itself_and_is_announced(desk: View, inbox: Inbox, recording: Recording) -> None:
    desk.page.goto(inbox.url)
    assert "No mail yet" in desk.text()
    take(recording, "First")
    desk.page.wait_for_selector("text=First")
    desk.page.locator(".mails a").first.focus()
    take(recording, "Second")
    desk.page.wait_for_selector("text=Second")
    assert desk.page.locator(".subject").all_inner_texts() == ["Second", "First"]
    assert desk.page.inner_text("#total") == "2"
    assert desk.page.inner_text("#news") == "1 new mail"
    # Who reads on by keyboard keeps their place.
    assert desk.page.evaluate("document.activeElement.getAttribute('href')") == "/mail/1"


def test_a_mail_is_found_and_read_by_keyboard_alone(desk: View, inbox: Inbox, recording: Recording) -> None:
    take(recording, "Invoice", "<p>in HTML</p>")
    take(recording, "Other", to="li@example.com")
    show(desk, inbox, "/", mails=2)
    keys = desk.page.keyboard
    for key in ("Tab", "Tab", "Tab"):  # past the skip link and the brand
        keys.press(key)
    keys.type("ADA@ invoice")
    keys.press("Enter")
    desk.page.wait_for_url("**/?q=*")
    assert desk.page.locator(".subject").all_inner_texts() == ["Invoice"]
    desk.page.locator(".mails a").focus()
    keys.press("Enter")
    desk.page.wait_for_url("**/mail/1")
    assert desk.page.frame_locator("iframe").locator("p").inner_text() == "in HTML"
    assert desk.page.title().startswith("Invoice")


def test_every_control_has_a_name_and_every_page_one_heading(desk: View, inbox: Inbox, recording: Recording) -> None:
    take(recording, "Invoice", "<p>x", filename="a.pdf")
    for path in ("/", "/mail/1", "/mail/1/headers", "/mail/9"):
        show(desk, inbox, path, mails=1)
        assert desk.page.locator("h1").count() == 1
        assert desk.page.locator("main").count() == 1
        nameless = desk.page.evaluate(
            """[...document.querySelectorAll('a, input, button, iframe')].filter(element =>
                !(element.innerText || element.getAttribute('aria-label') || element.title).trim()).length"""
        )
        assert nameless == 0, path


def test_hostile_mail_runs_nothing_and_fetches_nothing(desk: View, inbox: Inbox, recording: Recording) -> None:
    html = f"""<html><head><base href="https://evil.example/"><meta http-equiv="refresh" content="0;url=https://evil.example/">
        <link rel="stylesheet" href="https://evil.example/x.css"><style>@import url(https://evil.example/y.css);
        body {{ background: url(https://evil.example/b.png) }}</style></head><body onload="parent.hit = 1">{EVIL}
        <script src="https://evil.example/x.js"></script><img src="https://evil.example/pixel.png">
        <iframe src="https://evil.example/"></iframe><iframe srcdoc="<script>parent.parent.hit = 1</script>"></iframe>
        <object data="https://evil.example/o"></object><video src="https://evil.example/v" autoplay></video>
        <form action="https://evil.example/"><input autofocus onfocus="parent.hit = 1"><button>Send</button></form>
        <a href="javascript:parent.hit = 1">Click</a><svg onload="parent.hit = 1"></svg><p>seen</p></body></html>"""
    take(recording, EVIL, html, filename=f"{EVIL.replace('/', '')}.html")
    asked: list[str] = []
    # What would leave this machine is seen and stopped here, should the page let it.
    desk.page.context.route(
        lambda url: not url.startswith(inbox.url), lambda route: (asked.append(route.request.url), route.abort())
    )
    alerts: list[str] = []
    desk.page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    for path in ("/", "/mail/1", "/mail/1/html", "/mail/1/text", "/mail/1/headers", "/mail/1/raw", "/mail/1/frame"):
        show(desk, inbox, path, mails=1)
        frames = desk.page.frames
        assert [frame.evaluate("window.hit") for frame in frames[:1]] == [None], path
    show(desk, inbox, "/mail/1", mails=1)
    frame = desk.page.frame_locator("iframe")
    assert frame.locator("p").inner_text() == "seen"
    frame.locator("a").click()
    frame.locator("button").click()
    desk.page.wait_for_timeout(300)  # what it must not do, it would do at once
    assert desk.page.url == f"{inbox.url}/mail/1"
    assert desk.page.evaluate("window.hit") is None
    assert (alerts, asked) == ([], [])
    with pytest.raises(Error):  # the trap holds: by hand it can be asked for
        desk.page.goto("https://evil.example/trap")
    assert asked == ["https://evil.example/trap"]


def test_the_shipped_templates_are_shown_as_they_are(
    desk: View, inbox: Inbox, recording: Recording, shots: Path
) -> None:
    from dispatcher.render import Template  # noqa: PLC0415 - only here

    version = TemplateFolder(shipped()).load("order_confirmation")
    template = Template(version)
    html = template.render("zh", template.sample("zh")).html
    assert html
    take(recording, "订单", html)
    show(desk, inbox, "/mail/1", mails=1)
    assert "SO-" in desk.page.frame_locator("iframe").locator("body").inner_text()
    desk.shoot(shots / "inbox-order.png")


def test_a_link_in_a_mail_opens_a_window_of_its_own(desk: View, inbox: Inbox, recording: Recording) -> None:
    take(recording, "Reset", '<a href="https://shop.example.com/reset">Reset</a>')
    show(desk, inbox, "/mail/1", mails=1)
    desk.page.context.route("https://shop.example.com/**", lambda route: route.fulfill(body="the shop"))
    with desk.page.expect_popup() as opened:
        desk.page.frame_locator("iframe").locator("a").click()
    opened.value.wait_for_load_state()
    assert opened.value.url == "https://shop.example.com/reset"
    assert desk.page.url == f"{inbox.url}/mail/1"
    assert opened.value.evaluate("[document.referrer, window.opener]") == ["", None]
