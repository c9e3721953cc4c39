"""The shipped templates as a reader sees them: on a telephone and a desktop, light and dark.

Screenshots go to the folder in DISPATCHER_SCREENSHOTS, if that is set.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from dispatcher import part
from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.render import Template
from tests.e2e.browser import View, chromium, view

pytestmark = pytest.mark.server

FOLDER = TemplateFolder(shipped())
MAILS = [(name, locale) for name in FOLDER.names() for locale in ("en", "zh")]
WINDOWS = [(width, scheme) for width in (360, 1200) for scheme in ("light", "dark")]
READABLE = 4.5  # WCAG 2.2, 1.4.3, level AA

# The worst that real data brings: no spaces, long numbers, and next to nothing else.
LONG = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft"
HOSTILE: dict[str, dict[str, Any]] = {
    "order_confirmation": {
        "order": {
            "id": LONG, "placed_at": "2026-11-20", "currency": "USD", "total": "1234567890123.45", "url": "https://e.example",
            "items": [{"sku": LONG, "name": LONG, "quantity": 1000000, "unit_price": "1234567.8901"}],
            "shipping_address": LONG,
        }
    },
    "shipment_notice": {
        "order": {"id": LONG},
        "shipment": {"carrier": LONG, "tracking_number": LONG, "items": [{"name": LONG, "quantity": 1000000}]},
    },
    "password_reset": {"reset_url": f"https://e.example/?t={LONG}{LONG}", "expires_minutes": 30},
    "welcome": {"login_url": "https://e.example", "steps": [{"title": LONG, "text": LONG}]},
    "birthday": {"voucher": {"code": LONG, "expires_on": "2026-12-31", "text": LONG}},
    "report_ready": {
        "report": {
            "title": LONG, "period": LONG, "summary": LONG,
            "figures": [{"label": LONG, "value": 12345678901, "change": -9.99}],
        }
    },
    "newsletter": {
        "title": LONG, "intro": LONG, "first_name": LONG, "url": "https://e.example", "unsubscribe_url": "https://e.example",
        "sections": [{"heading": LONG, "text": LONG, "url": "https://e.example", "label": LONG}],
    },
    "welcome_first_steps": {"login_url": "https://e.example"},
    "welcome_invitation": {"voucher": {"code": LONG, "expires_on": "2026-12-31", "text": LONG, "url": "https://e.example"}},
    "review_request": {"order": {"id": LONG, "items": [{"name": LONG}]}, "review_url": "https://e.example"},
    "campaign_report": {
        "campaign": LONG, "outcome": "finished", "audience": LONG, "rows": 10**12, "filtered": 10**12, "mails": 10**12,
        "states": [{"state": LONG, "count": 10**12}], "started_at": "2026-11-20", "finished_at": "2026-11-20",
    },
    "report_sent": {
        "report": LONG, "mails": 10**12, "left_out": 10**12, "states": [{"state": LONG, "count": 10**12}],
        "started_at": "2026-11-20", "finished_at": "2026-11-20", "attached": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def window(browser: Browser, width: int, scheme: str) -> Iterator[View]:
    with view(browser, width, scheme) as opened:
        yield opened


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    return Path(os.environ.get("DISPATCHER_SCREENSHOTS") or tmp_path)


@cache
def template(name: str) -> Template:
    return Template(FOLDER.load(name))


def html(made: Template, locale: str, data: dict[str, Any]) -> str:
    found = made.render(locale, data).html
    assert found is not None
    return found


def unreadable(window: View) -> list[tuple[str, float]]:
    contrasts = window.contrasts()
    assert contrasts, "a mail shows some text"
    return [(text, round(ratio, 2)) for text, ratio in contrasts if ratio < READABLE]


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
@pytest.mark.parametrize(("name", "locale"), MAILS)
def test_a_template_fits_its_window_and_can_be_read(
    window: View, shots: Path, name: str, locale: str, width: int, scheme: str
) -> None:
    made = template(name)
    window.open(html(made, locale, made.sample(locale)))
    window.shoot(shots / f"{name}.{locale}.{width}.{scheme}.png")
    assert window.overflow() == 0
    assert window.missing() == ""
    assert unreadable(window) == []
    assert window.requests == [], "a mail loads nothing from elsewhere"


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1200, "dark")])
@pytest.mark.parametrize(("name", "locale"), MAILS)
def test_inlining_the_css_changes_no_elements_place_or_looks(
    window: View, name: str, locale: str, width: int, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = template(name).sample(locale)
    window.open(html(template(name), locale, data))
    inlined = window.looks()
    monkeypatch.setattr(part, "inlined", lambda pieces: None)
    monkeypatch.setattr(part, "inline", lambda html: html)
    window.open(html(Template(FOLDER.load(name)), locale, data))
    assert len(inlined) > 20
    assert inlined == window.looks()


@pytest.mark.parametrize("scheme", ["light"])
@pytest.mark.parametrize("width", [360])
@pytest.mark.parametrize(("name", "locale"), MAILS)
def test_the_longest_words_and_numbers_still_fit_a_telephone(
    window: View, shots: Path, name: str, locale: str, width: int, scheme: str
) -> None:
    data = {
        "customer": {"name": LONG},
        "company": {"name": LONG, "address": LONG, "support_email": LONG},
        **HOSTILE[name],
    }
    template(name).check(data)
    window.open(html(template(name), locale, data))
    window.shoot(shots / f"{name}.{locale}.hostile.png")
    assert window.overflow() == 0


@pytest.mark.parametrize("scheme", ["light"])
@pytest.mark.parametrize("width", [360])
def test_what_these_tests_look_for_would_be_found(window: View, width: int, scheme: str) -> None:
    window.open(
        "<p style='width: 500px; color: #999; background: #fff'>a\u0379\u4e2d</p><img src='http://127.0.0.1:9/x.png'>"
    )
    assert window.overflow() > 0
    assert window.missing() == "\u0379"  # no font has a character that Unicode has not
    assert [ratio for _, ratio in unreadable(window)] == [pytest.approx(2.85, abs=0.01)]
    assert window.requests == ["http://127.0.0.1:9/x.png"]
