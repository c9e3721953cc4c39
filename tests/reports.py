"""Reports on fakes: two people, each with a file, and one for all."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dispatcher.audience import BadRow
from dispatcher.report_check import Checked
from dispatcher.report_job import Report, ReportSpec
from tests.stage import ANNA, Stage

HEADER = "email", "customer", "file", "locale"
KEYS = ("a-key-that-signs-documents",)


class Table:
    """``interfaces.Rows`` of a list."""

    def __init__(self, *rows: Sequence[Any], header: Sequence[str] = HEADER) -> None:
        self.source, self.header, self._rows = "people.csv", header, rows
        self.details: Mapping[str, str] = {}
        self.size: int | None = None
        self.done = 0

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]] | BadRow]:
        return iter([row if isinstance(row, BadRow) else (n, row) for n, row in enumerate(self._rows, 2)])


PEOPLE = Table(("ada@example.com", "1001", None, "en"), ("li@example.com", "1002", None, "zh-CN"))
FILES = {"out/1001.pdf": b"%PDF-1.4 one", "out/1002.pdf": b"%PDF-1.4 two", "terms.pdf": b"%PDF-1.4 terms"}


def spec(**more: Any) -> ReportSpec:
    usual = {"subject": "Statement", "text": "Yours.", "folder": "out", "files": ["{customer}.pdf"]}
    return ReportSpec.parse({name: value for name, value in {**usual, **more}.items() if value is not None})


def staged(**policy: Any) -> Stage:
    """With these files."""
    made = Stage(secret_keys=KEYS, **policy)
    made.files_of_reports.files |= FILES
    return made


def check(stage: Stage, rows: Table = PEOPLE, **more: Any) -> Checked:
    return stage.dispatcher.reports.check(spec(**more), rows)


def found(stage: Stage, rows: Table = PEOPLE, **more: Any) -> dict[str, tuple[str, ...]]:
    return {finding.what: finding.where for finding in check(stage, rows, **more).findings}


def send(stage: Stage, rows: Table = PEOPLE, name: str = "november", **more: Any) -> Report:
    return stage.dispatcher.reports.send(name, spec(**more), check(stage, rows, **more), ANNA)
