"""What producers emit: events, such as a customer who registered or an order that was shipped; and their kinds."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from dispatcher.audience import Column
from dispatcher.enrolment import Enrolment
from dispatcher.errors import SubmissionError
from dispatcher.kind import Kind
from dispatcher.schema import DataSchema

MAX_ID = 256
_YEARS = 1970, 2999
_FIELDS = "event", "data", "id", "at"
_KINDS = {"string": Kind.TEXT, "boolean": Kind.BOOL, "integer": Kind.NUMBER, "number": Kind.NUMBER}
_FORMATS = {"date": Kind.DATE, "date-time": Kind.DATE, "iso8601": Kind.DATE, "decimal": Kind.NUMBER}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``id``: the producer's own number of it: what comes again with it is the same event.
    ``at``: when it happened, ISO 8601 with an offset; now by default, and never later."""

    event: str
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    at: str | None = None

    @classmethod
    def parse(cls, document: Any) -> "Event":
        """Read JSON. Raises SubmissionError naming the field."""
        if not isinstance(document, Mapping):
            raise SubmissionError("", "an event is an object with event, data, id and at")
        if unknown := sorted(map(str, document.keys() - set(_FIELDS))):
            raise SubmissionError(unknown[0], f"unknown field; known are {', '.join(_FIELDS)}")
        name, data = document.get("event"), document.get("data", {})
        if not isinstance(name, str) or not name:
            raise SubmissionError("event", "required: the name of a kind of event")
        if not isinstance(data, Mapping):
            raise SubmissionError("data", "must be an object")
        own = document.get("id")
        if own is not None and not (isinstance(own, str) and 0 < len(own) <= MAX_ID and own.isprintable()):
            raise SubmissionError("id", f"must be a text of up to {MAX_ID} printable characters")
        made = cls(name, data, own, document.get("at"))
        made.moment(0.0)
        return made

    def moment(self, now: float) -> float:
        """When it happened, seconds since the epoch. Raises SubmissionError."""
        if self.at is None:
            return now
        try:
            found = datetime.fromisoformat(self.at)
        except (TypeError, ValueError):
            raise SubmissionError("at", "is no ISO 8601 time such as 2026-12-01T09:00:00+08:00") from None
        if found.tzinfo is None:
            raise SubmissionError("at", "has no offset from UTC; write it as 2026-12-01T09:00:00+08:00")
        if not _YEARS[0] < found.year < _YEARS[1]:
            raise SubmissionError("at", f"is out of range: {_YEARS[0]} to {_YEARS[1]}")
        return found.timestamp()

    @property
    def fingerprint(self) -> str:
        """Of all that makes it the same event."""
        content = json.dumps([self.event, self.data, self.at], sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


class EventReceipt(NamedTuple):
    """What came of an event: ``enrolled`` names whom it took in, ``automation/key``; ``duplicate``: it was here
    before, and nothing was done. ``due``: for whom something is due now."""

    id: str
    event: str
    duplicate: bool
    enrolled: tuple[str, ...] = ()
    due: tuple[Enrolment, ...] = ()

    def document(self) -> dict[str, Any]:
        """The JSON answer of every door."""
        return {"id": self.id, "event": self.event, "duplicate": self.duplicate, "enrolled": list(self.enrolled)}


@dataclass(frozen=True)
class EventType:
    """A kind of event: the JSON Schema of its data, and data by which automations are checked."""

    name: str
    about: str
    data: Mapping[str, Any]
    sample: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "EventType":
        return cls(document["event"], document.get("about", ""), document["data"], document.get("sample", {}))

    def document(self) -> dict[str, Any]:
        return {"event": self.name, "about": self.about, "data": dict(self.data), "sample": dict(self.sample)}

    @cached_property
    def schema(self) -> DataSchema:
        """Compiled. Raises SchemaError."""
        return DataSchema(self.data)

    @property
    def columns(self) -> list[Column]:
        """The places in its data that hold a plain value, as filters know them."""
        return [Column(path, kind, path) for path, kind, _ in places(self.data)]

    def required(self, path: str) -> bool | None:
        """Whether every event of this kind has a value there; None: there is no such place."""
        return next((always for found, _, always in places(self.data) if found == path), None)


def places(schema: Mapping[str, Any], before: str = "", always: bool = True) -> Iterator[tuple[str, Kind, bool]]:
    """The paths of plain values that a schema knows, their kind, and whether they are always there."""
    required = schema.get("required", ())
    for name, inner in (schema.get("properties") or {}).items():
        if not isinstance(inner, Mapping):
            continue
        path, there = f"{before}{name}", always and name in required
        if "properties" in inner:
            yield from places(inner, f"{path}.", there)
        elif (kind := _kind(inner)) is not None:
            yield path, kind, there


def _kind(schema: Mapping[str, Any]) -> Kind | None:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    named = schema.get("type", "string")
    kinds = [each for each in ([named] if isinstance(named, str) else named) if each != "null"]
    return next((_KINDS[each] for each in _KINDS if each in kinds), None) if kinds else None
