"""Which deliveries a person means: ids of every kind, and the conditions of a Selector."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, func, or_, select, tuple_, type_coerce

from dispatcher import ids
from dispatcher.adapters.sql.database import AnyRow, Transaction, chunks
from dispatcher.adapters.sql.schema import deliveries, keys, messages, reports, submissions
from dispatcher.delivery import Selector
from dispatcher.errors import NotFound
from dispatcher.ledger import WIPED
from dispatcher.report_job import ReportState


@dataclass(slots=True)
class Meant:
    """The rows that some ids stand for, by number."""

    submissions: set[int] = field(default_factory=set)
    messages: set[int] = field(default_factory=set)
    deliveries: set[int] = field(default_factory=set)

    def condition(self) -> ColumnElement[bool]:
        """True for a delivery that is one of them, or belongs to one."""
        return or_(
            *(
                column.in_(chunk)
                for column, numbers in (
                    (deliveries.c.submission_id, self.submissions),
                    (deliveries.c.message_id, self.messages),
                    (deliveries.c.id, self.deliveries),
                )
                for chunk in chunks(sorted(numbers))
            )
        )


def of_reports(*states: ReportState) -> Select[tuple[int]]:
    """The numbers of the submissions of reports, of those in these states if any are named. By what they are called: a
    report is kept for longer than its submission, whose number SQLite may give again."""
    found = select(submissions.c.id).join(reports, reports.c.submission == submissions.c.public_id)
    return found.where(reports.c.state.in_([state.value for state in states])) if states else found


def meant(tx: Transaction, names: Sequence[str]) -> Meant:
    """What these stand for: ids of submissions, messages and deliveries, Message-IDs, idempotency keys.

    Raises NotFound naming the first that is nobody's.
    """
    references = {name: ids.parse(name) for name in names}
    known = _submissions(tx, {reference.submission for reference in references.values() if reference})
    found, rest = Meant(), set[str]()
    within: dict[tuple[int, int], list[tuple[str, int | None]]] = {}
    for name, reference in references.items():
        row = known.get(reference.submission) if reference else None
        if reference is None or row is None or not reference.fits(row.seed):
            rest.add(name)
        elif reference.n is None:
            found.submissions.add(row.id)
        else:
            within.setdefault((row.id, reference.n), []).append((name, reference.k))
    rest |= _messages(tx, within, found)
    unknown = rest - _keys(tx, rest, found)
    for name in names:
        if name in unknown:
            raise NotFound(f"{name!r} is no id of a submission, message or delivery, and no idempotency key")
    return found


def _submissions(tx: Transaction, public_ids: Iterable[str]) -> dict[str, AnyRow]:
    query = select(submissions.c.id, submissions.c.public_id, submissions.c.seed)
    found: dict[str, AnyRow] = {}
    for chunk in chunks(sorted(public_ids)):
        found |= {row.public_id: row for row in tx.execute(query.where(submissions.c.public_id.in_(chunk)))}
    return found


def _messages(tx: Transaction, within: dict[tuple[int, int], list[tuple[str, int | None]]], found: Meant) -> set[str]:
    """Add the messages and deliveries that are asked for by their places; the names of those that are not there."""
    wanted = {(place, k): name for place, names in within.items() for name, k in names}
    for chunk in chunks(sorted(within)):
        query = (
            select(messages.c.submission_id, messages.c.n, messages.c.id, deliveries.c.k, deliveries.c.id)
            .join(deliveries, deliveries.c.message_id == messages.c.id)
            .where(tuple_(messages.c.submission_id, messages.c.n).in_(chunk))
        )
        for submission, n, message, k, delivery in tx.execute(query):
            if wanted.pop(((submission, n), k), None) is not None:
                found.deliveries.add(delivery)
            if wanted.pop(((submission, n), None), None) is not None:
                found.messages.add(message)
    return set(wanted.values())


def _keys(tx: Transaction, names: set[str], found: Meant) -> set[str]:
    """Add the submissions that used these keys; which of the names are keys."""
    used: set[str] = set()
    for chunk in chunks(sorted(names)):
        query = (
            select(keys.c.key, submissions.c.id)
            .join(submissions, submissions.c.public_id == keys.c.submission)
            .where(keys.c.key.in_(chunk))
        )
        for key, submission in tx.execute(query):
            found.submissions.add(submission)
            used.add(key)
    return used


def conditions(tx: Transaction, selector: Selector) -> ColumnElement[bool]:
    """Of deliveries joined with their message and submission. Raises NotFound for an id that is nobody's."""
    found: list[ColumnElement[bool]] = []
    if selector.ids:
        found.append(meant(tx, selector.ids).condition())
    if selector.states:
        found.append(deliveries.c.state.in_([state.value for state in selector.states]))
    if selector.to is not None:
        found.append(func.lower(deliveries.c.rcpt) == func.lower(selector.to))
    exactly = (
        (deliveries.c.lane, selector.lane and selector.lane.value),
        (deliveries.c.relay, selector.relay),
        (submissions.c.producer, selector.producer),
        (wiped(), selector.wiped),
    )
    found += [column == value for column, value in exactly if value is not None]
    if selector.key is not None:
        owners = select(keys.c.submission).where(keys.c.key == selector.key)
        numbers = select(submissions.c.id).where(submissions.c.public_id.in_(owners))
        found.append(deliveries.c.submission_id.in_(numbers))
    if selector.since is not None:
        found.append(submissions.c.accepted_at >= selector.since)
    if selector.tag is not None:
        found.append(holds(submissions.c.tags, selector.tag))
    for name, value in selector.metadata:
        found.append(holds(func.coalesce(messages.c.labels, submissions.c.labels), f"{name}={value}"))
    return and_(True, *found)


def wiped() -> ColumnElement[bool]:
    """Of messages: whether there were secrets that are forgotten."""
    return func.coalesce(type_coerce(messages.c.secrets, Text), "") == json.dumps(WIPED)


def holds(column: ColumnElement[Any], word: str) -> ColumnElement[bool]:
    """Whether a JSON array of strings, kept as text, has this one. A quote inside of a string is escaped in JSON, so
    the quoted word is found only as a whole. Not LIKE, which in SQLite knows no upper case; and what finds a text in
    a text has another name in each database, but not what replaces it."""
    return func.replace(column, json.dumps(word), "") != type_coerce(column, Text)
