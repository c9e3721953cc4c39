"""Who received what: a line for each recipient and file, as CSV, as a signed document, and as a mail to the owner."""

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice, zip_longest
from typing import Any, NamedTuple

from dispatcher import signing
from dispatcher.cells import defused
from dispatcher.delivery import State
from dispatcher.errors import NotFound
from dispatcher.interfaces import Ledger
from dispatcher.report_job import Report, ReportFile, ReportRow

TEMPLATE = "report_sent"
COLUMNS = "mail", "address", "file", "sha256", "state", "relay", "code", "enhanced", "reply", "at"
LEFT_OUT = "left out"
_PAGE = 1000
_ATTACHED = 50_000  # lines that go along with the mail; a longer one is written by the command
_LINES = 78 / 76  # base64 goes in lines
_TEXTS = 64 * 1024  # bytes that the mail has beside them
_NO_FILE = (ReportFile("", "", 0),)


class Verified(NamedTuple):
    """A document that was signed by us: of which report, and which of its lines the ledger has otherwise now (None: it
    has none of them any more)."""

    report: str
    lines: int
    differ: tuple[str, ...] | None


class Distribution:
    """Reads what became of a report's mails. Of the ``keys`` the first signs, and all verify."""

    def __init__(self, ledger: Ledger, keys: Sequence[str], max_bytes: int) -> None:
        self._store, self._keys, self._max = ledger.reports, keys, max_bytes

    def lines(self, report: Report) -> Iterator[dict[str, Any]]:
        """In the order of the manifest, by the names in COLUMNS; then those who were left out."""
        after = 0
        while page := self._store.rows(report, after, _PAGE):
            for row in page:
                yield from (_line(row, file) for file in (*report.files, *row.files) or _NO_FILE)
            after = page[-1].n
        for address in report.missing:
            yield dict.fromkeys(COLUMNS) | {"address": address, "state": LEFT_OUT}

    def cells(self, report: Report) -> Iterator[list[str]]:
        """The same as CSV has them; none that a spreadsheet takes for a formula."""
        for line in self.lines(report):
            yield ["" if line[name] is None else defused(str(line[name])) for name in COLUMNS]

    def signed(self, report: Report, now: float) -> str:
        """All of it as one signed JSON document."""
        head = {
            "name": report.name,
            "submission": report.submission,
            "state": report.state.value,
            "mails": report.total,
            "left_out": len(report.missing),
            "written_at": _iso(now),
        }
        return signing.signed({"report": head, "lines": list(self.lines(report))}, self._keys)

    def verify(self, text: str) -> Verified:
        """Whether a document is ours, and what the ledger says today. Raises InvalidToken."""
        document = signing.read(text, self._keys)
        head, told = document.get("report", {}), document.get("lines", [])
        try:
            report = self._store.get(str(head.get("name")))
        except NotFound:
            return Verified(str(head.get("name")), len(told), None)
        if report.submission != head.get("submission") or not self._store.rows(report, 0, 1):
            return Verified(report.name, len(told), None)
        differ = [_difference(old, new) for old, new in zip_longest(told, self.lines(report)) if old != new]
        return Verified(report.name, len(told), tuple(differ))

    def document(self, report: Report) -> Mapping[str, Any] | None:
        """The submission that tells its owner; None: nobody is to be told."""
        if report.owner is None:
            return None
        sums, attached = self._store.sums(report), self._attachments(report)
        data = {
            "report": report.name,
            "mails": report.total,
            "left_out": len(report.missing),
            "states": [{"state": state.value, "count": sums[state]} for state in State if sums.get(state)],
            "started_at": _iso(report.created_at),
            "finished_at": _iso(report.finished_at),
            "attached": bool(attached),
        }
        document: dict[str, Any] = {
            "template": TEMPLATE, "to": [report.owner], "data": data, "tags": ["report-sent"],
            "metadata": {"report": report.name}, "idempotency_key": f"report/{report.id}/sent/{report.finished_at}",
        }  # fmt: skip
        document |= {name: report.spec[name] for name in ("from", "locale") if name in report.spec}
        if attached:
            document["attachments"] = attached
        return document

    def _attachments(self, report: Report) -> list[dict[str, str]]:
        """Both files, or none where they are more than a mail may have."""
        if next(islice(self.lines(report), _ATTACHED, None), None) is not None:
            return []
        made = [
            _attached("distribution.csv", "text/csv", self._csv(report).encode("utf-8-sig")),
            _attached("distribution.json", "application/json", self.signed(report, report.finished_at or 0.0).encode()),
        ]
        size = sum(len(each["content"]) * _LINES for each in made)
        return made if size + _TEXTS <= self._max else []

    def _csv(self, report: Report) -> str:
        file = io.StringIO(newline="")
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        rows.writerows(self.cells(report))
        return file.getvalue()


def _line(row: ReportRow, file: ReportFile) -> dict[str, Any]:
    values = (
        row.n, row.address, file.name or None, file.sha256 or None, row.state.value, row.relay, row.code, row.enhanced,
        row.text or None, _iso(row.at),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _difference(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    """``mail 3, li@example.com, 1003.pdf: state was sent, is bounced_later``."""
    there = old or new or {}
    where = f"mail {there['mail']}, {there['address']}, {there['file']}"
    if old is None or new is None:
        return f"{where}: {'is' if old is None else 'was'} only in the {'ledger' if old is None else 'document'}"
    pairs = [(name, old.get(name), new[name]) for name in COLUMNS]
    changed = [f"{name} was {_word(was)}, is {_word(now)}" for name, was, now in pairs if was != now]
    return f"{where}: {'; '.join(changed)}"


def _word(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _attached(filename: str, content_type: str, content: bytes) -> dict[str, str]:
    return {"filename": filename, "content_type": content_type, "content": base64.b64encode(content).decode()}


def _iso(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
