"""Chromium as a reader of mail: what it shows of a document, measured."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.servers import missing

# Of every element that a mail is made of: where it stands and how it looks.
_LOOKS = """() => [...document.body.querySelectorAll('*')].map(element => {
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    const names = ['color', 'background-color', 'background-image', 'display', 'font', 'letter-spacing', 'text-align',
        'text-decoration', 'white-space', 'vertical-align', 'padding', 'margin', 'border', 'border-radius', 'overflow'];
    return [element.tagName, box.x, box.y, box.width, box.height, ...names.map(name => style.getPropertyValue(name))];
})"""

# The texts that a reader sees, each with its element.
_TEXTS = """function* texts() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; node = walker.nextNode();) {
        if (node.data.trim() && node.parentElement.checkVisibility()) yield [node.data.trim(), node.parentElement];
    }
}"""

# WCAG 2.2, 1.4.3: relative luminance and contrast ratio. What has a gradient is measured against its fallback colour.
_CONTRASTS = (
    "() => {"
    + _TEXTS
    + """
    const parts = colour => (colour.match(/[0-9.]+/g) || []).map(Number);
    const over = (top, below) => top.slice(0, 3).map((c, i) => c * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
    const luminance = colour => {
        const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const background = element => {
        const layers = [];
        for (; element; element = element.parentElement) layers.push(parts(getComputedStyle(element).backgroundColor));
        return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    return [...texts()].map(([text, element]) => {
        const below = background(element), colour = over(parts(getComputedStyle(element).color), below);
        const [dark, light] = [luminance(below), luminance(colour)].sort((a, b) => a - b);
        return [text, (light + 0.05) / (dark + 0.05)];
    });
}"""
)

# A character that no font has is drawn as the box that stands for all such; U+0378 is none that will ever be assigned
# a glyph by accident. Drawn alike means missing.
_MISSING = (
    "() => {"
    + _TEXTS
    + r"""
    const canvas = Object.assign(document.createElement('canvas'), {width: 48, height: 48});
    const pen = canvas.getContext('2d', {willReadFrequently: true});
    const drawn = (character, font) => {
        pen.clearRect(0, 0, 48, 48); pen.font = font; pen.fillText(character, 4, 36);
        return pen.getImageData(0, 0, 48, 48).data.join();
    };
    const absent = new Set(), seen = new Set();
    for (const [text, element] of texts()) {
        const style = getComputedStyle(element), font = `${style.fontWeight} 32px ${style.fontFamily}`;
        const box = drawn('\u0378', font);
        if (!/[1-9]/.test(box)) throw new Error('the box for a missing glyph is not drawn');
        for (const character of text.replace(/\s/gu, '')) {
            if (seen.has(character + font)) continue;
            seen.add(character + font);
            if (drawn(character, font) === box) absent.add(character);
        }
    }
    return [...absent].join('');
}"""
)


@dataclass(frozen=True, slots=True)
class View:
    """One document in one window. ``requests`` are the addresses that it asked for: a mail asks for none."""

    page: Page
    requests: list[str]

    def open(self, html: str) -> None:
        self.page.set_content(html, wait_until="load")

    def overflow(self) -> int:
        """By how many pixels the document is wider than its window."""
        found: int = self.page.evaluate("Math.max(0, document.documentElement.scrollWidth - innerWidth)")
        return found

    def contrasts(self) -> list[tuple[str, float]]:
        """Each text that a reader sees, with its contrast ratio."""
        return [(text, ratio) for text, ratio in self.page.evaluate(_CONTRASTS)]

    def missing(self) -> str:
        """The characters that no font of this machine can draw."""
        found: str = self.page.evaluate(_MISSING)
        return found

    def looks(self) -> list[Any]:
        """Place and looks of every element."""
        found: list[Any] = self.page.evaluate(_LOOKS)
        return found

    def text(self) -> str:
        return self.page.inner_text("body")

    def shoot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, from ``CHROMIUM`` or the PATH; a test that needs it is given up where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        missing("Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def view(browser: Browser, width: int, scheme: str) -> Iterator[View]:
    """A window of this width (CSS pixels), light or dark, with its screenshots twice as fine when it is narrow."""
    dark = scheme == "dark"
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if dark else "light",
        device_scale_factor=2 if width < 600 else 1,
    )
    try:
        opened = View(context.new_page(), [])
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        yield opened
    finally:
        context.close()
