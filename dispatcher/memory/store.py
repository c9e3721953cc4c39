"""The rows of the ledger in memory, and the ways to find them."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from dispatcher import ids
from dispatcher.delivery import SETTLED, WAITING, Lane, Selector, State
from dispatcher.errors import NotFound
from dispatcher.ledger import WIPED, attached, secrets_of, storable
from dispatcher.mail import Accepted, AcceptedMessage
from dispatcher.memory.rows import DeliveryRow, MessageRow, SubmissionRow
from dispatcher.records import Totals
from dispatcher.suppression import Suppression

Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class KeyRow:
    """Who used an idempotency key, and for what content."""

    submission: str
    accepted: int
    fingerprints: dict[str, str]
    keep_until: float


@dataclass(slots=True, eq=False)
class Store:
    """All rows, in the order in which they came."""

    submissions: dict[str, SubmissionRow] = field(default_factory=dict)
    messages: dict[int, MessageRow] = field(default_factory=dict)
    deliveries: dict[int, DeliveryRow] = field(default_factory=dict)
    keys: dict[Key, KeyRow] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def insert(
        self, accepted: Accepted, now: float, held: Callable[[str, str | None], Suppression | None]
    ) -> SubmissionRow:
        """Rows for a new submission; ``held``: what holds mail to an address of a list."""
        count = sum(len(message.deliveries) for message in accepted.messages)
        ((public_id, seed),) = ids.new_submissions(1)
        submission = SubmissionRow(public_id, seed, accepted, now, _copy(accepted.shared), count)
        self.submissions[submission.public_id] = submission
        due = now if accepted.send_at is None else accepted.send_at
        expires = due + accepted.lifetime if accepted.expires_at is None else accepted.expires_at
        for n, each in enumerate(accepted.messages, 1):
            for row in self._append(submission, n, each, due, expires, now):
                if (found := held(row.rcpt, accepted.list)) is not None:
                    row.suppress(found, now)
        wipe(submission.messages)
        return submission

    def append(
        self, submission: SubmissionRow, n: int, message: AcceptedMessage, due: float, now: float
    ) -> list[DeliveryRow]:
        """The rows of a message that comes later."""
        return self._append(submission, n, message, due, due + submission.accepted.lifetime, now)

    def _append(
        self, submission: SubmissionRow, n: int, each: AcceptedMessage, due: float, expires: float, now: float
    ) -> list[DeliveryRow]:
        secrets = _copy(secrets_of(submission.accepted.secrets, each.secrets))
        message = MessageRow(next(self._numbers), submission, n, _copy(each.own), secrets)
        submission.messages.append(message)
        self.messages[message.id] = message
        for k, to in enumerate(each.deliveries, 1):
            row = DeliveryRow(next(self._numbers), message, k, to.rcpt, to.kind, due, expires, now)
            message.deliveries.append(row)
            self.deliveries[row.id] = row
        return message.deliveries

    def key(self, accepted: Accepted, now: float) -> KeyRow | None:
        """Who used this submission's key before, if that is remembered."""
        name = key_of(accepted)
        row = self.keys.get(name)
        if row is not None and row.keep_until <= now and row.submission not in self.submissions:
            del self.keys[name]
            return None
        return row if accepted.key is not None else None

    def forget_keys(self, now: float) -> None:
        """Forget the keys that need not be remembered any more."""
        for name, row in list(self.keys.items()):
            if row.keep_until <= now and row.submission not in self.submissions:
                del self.keys[name]

    def attached(self) -> set[str]:
        """The attachments that are used."""
        rows = self.submissions.values()
        used = attached(each for row in rows for each in (row.shared, *(message.own for message in row.messages)))
        return used | {message.made["blob"] for message in self.messages.values() if message.made}

    def select(self, selector: Selector) -> list[DeliveryRow]:
        """The deliveries that are meant, newest first. Raises NotFound for an id that is nobody's."""
        pool: Iterable[DeliveryRow] = self.meant(selector.ids) if selector.ids else self.deliveries.values()
        found = sorted((row for row in pool if row.matches(selector)), key=lambda row: -row.id)
        return found[: selector.limit]

    def meant(self, names: Sequence[str]) -> list[DeliveryRow]:
        """The deliveries that these ids and keys stand for, each once. Raises NotFound."""
        found: dict[int, DeliveryRow] = {}
        for name in names:
            rows = self._reference(name)
            if rows is None and not (rows := list(self._used(name))):
                raise NotFound(f"{name!r} is no id of a submission, message or delivery, and no idempotency key")
            found |= {row.id: row for row in rows}
        return list(found.values())

    def first(self, name: str) -> DeliveryRow:
        """Of those that this stands for. Raises NotFound, also for a submission that has none yet."""
        if not (found := self.meant((name,))):
            raise NotFound(f"{name!r} has no messages yet")
        return found[0]

    def _reference(self, name: str) -> list[DeliveryRow] | None:
        """None for an id that is nobody's; a submission may have nothing yet."""
        reference = ids.parse(name)
        submission = self.submissions.get(reference.submission) if reference else None
        if reference is None or submission is None or not reference.fits(submission.seed):
            return None
        n, k = reference.n, reference.k
        found = [row for row in submission.deliveries if n in (None, row.message.n) and k in (None, row.k)]
        return found if found or n is None else None

    def _used(self, key: str) -> Iterator[DeliveryRow]:
        for (used, _), row in self.keys.items():
            if used == key and row.submission in self.submissions:
                yield from self.submissions[row.submission].deliveries

    def totals(self, now: float, rejects: int) -> Totals:
        """Sums over all rows."""
        states: defaultdict[tuple[Lane, State], int] = defaultdict(int)
        oldest: dict[Lane, float] = {}
        scheduled = 0
        for row in self.deliveries.values():
            lane = Lane(row.lane)
            states[lane, row.state] += 1
            if row.state in WAITING:
                scheduled += row.due_at > now
                if row.due_at <= now:
                    oldest[lane] = max(now - row.due_at, oldest.get(lane, 0.0))
        accepted = sum(row.count for row in self.submissions.values())
        return Totals(accepted, dict(states), oldest, scheduled, rejects)


def key_of(accepted: Accepted) -> Key:
    """What makes a key one's own: the text and its producer."""
    return storable(accepted.key or ""), storable(accepted.producer)


def wipe(messages: Iterable[MessageRow]) -> None:
    """Forget the secrets of those that are settled throughout."""
    for message in messages:
        if all(delivery.state in SETTLED for delivery in message.deliveries):
            message.secrets = None if message.secrets is None else WIPED


def _copy(value: Any) -> Any:
    """As it would come back from a database: JSON, and nobody else's."""
    return json.loads(json.dumps(value))
