"""The check before a campaign starts: everybody is looked at, and every kind of them is rendered. Nothing is sent."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, NamedTuple

from dispatcher.errors import RenderError, SubmissionError
from dispatcher.expansion import Person, Plan

CLIPPED_BYTES = 102 * 1024  # of HTML: what is longer is cut off by Gmail, with the link at its end
MAX_SHAPES = 500
UNSUBSCRIBE = "https://unsubscribe.example/to-be-signed"  # stands for the link of each recipient
_ADVERTISING = re.compile(r"(?<![A-Za-z])AD(?![A-Za-z])|广告")  # China's rules want one of these in the subject
_CHINA = frozenset(("cn", "chn", "china", "中国", "中华人民共和国"))
_COUNTRY = frozenset(("country", "country_code", "国家"))
_CHINESE_ZONES = frozenset(("Asia/Shanghai", "Asia/Urumqi", "Asia/Chongqing", "Asia/Harbin", "Asia/Kashgar", "PRC"))
_NAMED_ROWS = 5


class Finding(NamedTuple):
    """``level`` is ok, warn or fail; ``what`` was looked at, and ``text`` says what is the matter."""

    level: str
    what: str
    text: str


Shape = tuple[str, frozenset[str], bool]  # the locale that is rendered, the attributes that are there, in China


@dataclass(slots=True)
class _Fault:
    """How many have it, and the first of them."""

    count: int = 0
    rows: list[int] = field(default_factory=list)

    def note(self, n: int) -> None:
        self.count += 1
        if len(self.rows) < _NAMED_ROWS:
            self.rows.append(n)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.rows) else ""
        people = "person" if self.count == 1 else "people"
        return f"{self.count:,} {people} (row {', '.join(map(str, self.rows))}{more})"


@dataclass(slots=True)
class Preflight:
    """``look`` at all people of a plan, a page at a time; then ``findings``. Memory stays flat: of each shape the
    first and the longest are kept."""

    plan: Plan
    now: float
    without_invalid: bool = False  # those whose data does not fit are set aside instead of stopping it
    recipients: int = 0
    suppressed: int = 0
    invalid: int = 0
    _shapes: dict[Shape, list[Person]] = field(default_factory=dict)
    _faults: dict[str, _Fault] = field(default_factory=dict)
    _nowhere: _Fault = field(default_factory=_Fault)
    _unspoken: dict[str, _Fault] = field(default_factory=dict)
    _left_out: int = 0

    def look(self, people: Iterable[Person], suppressed: Mapping[str, Any]) -> None:
        """``suppressed``: those of them who are, by address."""
        for person in people:
            self.recipients += 1
            self.suppressed += person.address in suppressed
            if fault := self.plan.fault(person):
                self.invalid += 1
                self._faults.setdefault(fault, _Fault()).note(person.n)
                continue
            if self.plan.timed and person.zone is None:
                self._nowhere.note(person.n)
            self._keep(person)

    def _keep(self, person: Person) -> None:
        try:
            tag = self.plan.template.locale(person.locale)
        except SubmissionError as error:
            self._faults.setdefault(str(error), _Fault()).note(person.n)
            return
        if person.locale and tag.partition("-")[0].lower() != person.locale.replace("_", "-").partition("-")[0].lower():
            self._unspoken.setdefault(person.locale, _Fault()).note(person.n)
        shape = tag, frozenset(person.attributes), in_china(person)
        kept = self._shapes.get(shape)
        if kept is None and len(self._shapes) >= MAX_SHAPES:
            self._left_out += 1
        elif kept is None:
            self._shapes[shape] = [person]
        elif len(person.written) > len(kept[-1].written):
            self._shapes[shape] = [kept[0], person]

    def findings(self, progress: Callable[[int], object] = lambda _: None) -> list[Finding]:
        """All that was seen, worst first. ``progress`` is called before each mail that is rendered, with 0."""
        found = [*self._of_people(), *self._of_mails(progress)]
        return sorted(found, key=lambda each: ("fail", "warn", "ok").index(each.level))

    def _of_people(self) -> Iterator[Finding]:
        going = self.recipients - self.suppressed
        yield Finding(
            "ok" if going else "fail", "recipients", f"{self.recipients:,}, of whom {self.suppressed:,} are suppressed"
        )
        level = "warn" if self.without_invalid else "fail"
        for fault, those in self._faults.items():
            yield Finding(level, "data", f"{fault}, for {those}")
        if self._nowhere.count:
            yield Finding("fail", "zone", f"no time zone: {self._nowhere}; name one for them with --zone")
        last = self.plan.spec.latest()
        if last is not None and last < self.now:
            yield Finding(
                "warn", "start", f"{self.plan.spec.start} is over for everybody: it goes as soon as it is started"
            )
        for tag, those in self._unspoken.items():
            yield Finding("warn", "locale", f"the template does not speak {tag}: {those} get another")

    def _of_mails(self, progress: Callable[[int], object]) -> Iterator[Finding]:
        seen: dict[tuple[str, str, str], _Fault] = {}
        largest = rendered = 0
        for shape, people in self._shapes.items():
            for person in people:
                rendered += 1
                progress(0)
                size, faults = self._mail(shape, person)
                largest = max(largest, size)
                for fault in faults:
                    seen.setdefault(fault, _Fault()).note(person.n)
        for (level, what, text), those in seen.items():
            yield Finding(level, what, f"{text} (rendered for row {', '.join(map(str, those.rows))})")
        if self._left_out:
            yield Finding(
                "warn", "shapes", f"more than {MAX_SHAPES}: {self._left_out:,} people have one that was not rendered"
            )
        if not seen and rendered:
            yield Finding(
                "ok",
                "mails",
                f"{rendered} rendered, one or two for each shape of the data; up to {largest / 1024:.0f} kB",
            )

    def _mail(self, shape: Shape, person: Person) -> tuple[int, list[tuple[str, str, str]]]:
        """How many bytes of HTML, and what is wrong."""
        try:
            mail = self.plan.template.render(person.locale, {"unsubscribe_url": UNSUBSCRIBE, **person.data})
        except RenderError as error:
            return 0, [("fail", "template", str(error))]
        html = mail.html or ""
        faults = list(_faults(html, mail.text))
        if shape[2] and not _ADVERTISING.search(mail.subject):
            faults.append(("fail", "China", "a subject for China has neither AD nor 广告"))
        return len(html.encode()), faults


def in_china(person: Person) -> bool:
    """Whether the row says so: by its country, or its time zone."""
    if person.zone in _CHINESE_ZONES:
        return True
    said = (person.attributes.get(name) for name in _COUNTRY)
    return any(str(country).strip().casefold() in _CHINA for country in said if country is not None)


def _faults(html: str, text: str) -> Iterator[tuple[str, str, str]]:
    page = _Page()
    page.feed(html)
    if html and UNSUBSCRIBE not in page.links:
        yield "fail", "unsubscribe", "the HTML has no link to {{ unsubscribe_url }}"
    if UNSUBSCRIBE not in text:
        yield ("warn" if html else "fail"), "unsubscribe", "the text has no {{ unsubscribe_url }}"
    if page.without_alt:
        yield "warn", "images", f"no alt text: {', '.join(sorted(page.without_alt)[:_NAMED_ROWS])}"
    if (size := len(html.encode())) > CLIPPED_BYTES:
        yield "warn", "size", f"{size / 1024:.0f} kB of HTML: Gmail cuts it off after {CLIPPED_BYTES // 1024} kB"


class _Page(HTMLParser):
    """Links, and images that say nothing to whoever does not see them."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.without_alt: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.add(str(given["href"]))
        if tag == "img" and "alt" not in given:
            self.without_alt.add(str(given.get("src") or "without a source")[:100])
