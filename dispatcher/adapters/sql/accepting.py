"""Taking mail in: keys first, so that whoever comes second adds nothing, then rows in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import exists, func, literal_column, select

from dispatcher import ids
from dispatcher.adapters.sql import timeline, using
from dispatcher.adapters.sql.database import AnyRow, Transaction, chunks
from dispatcher.adapters.sql.loading import Values, load
from dispatcher.adapters.sql.schema import deliveries, keys, messages, submissions, written
from dispatcher.adapters.sql.suppressions import Found, of_addresses
from dispatcher.delivery import State
from dispatcher.errors import IdempotencyConflict
from dispatcher.ledger import RECEIPT_RECIPIENTS, WIPED, attached, differing, labels, secrets_of, standing, storable
from dispatcher.listing import Listing
from dispatcher.mail import Accepted, AcceptedMessage, Receipt, ReceiptRecipient
from dispatcher.suppression import Suppression, holding, normal, why

Key = tuple[str, str]
_OF_A_KEY = "submission", "accepted", "fingerprints", "keep_until", "gone"
_SUBMISSION = (
    *("id", "public_id", "seed", "lane", "relay", "template", "template_name", "shared", "accepted", "accepted_at"),
    *("send_at", "lifetime", "if_in_doubt", "tags", "metadata", "labels", "producer", "key", "blobs_noted", "list"),
)
_MESSAGE = "id", "submission_id", "n", "own", "labels", "secrets"
_DELIVERY = (
    *("message_id", "k", "rcpt", "kind", "submission_id", "lane", "relay"),
    *("state", "due_at", "expires_at", "changed_at", "attempts", "crashes"),
)
_SUPPRESSED = (*_DELIVERY, *(column.name for column in timeline.LAST_COLUMNS))


@dataclass(slots=True)
class _Draft:
    """A submission that is new, with what it is called from now on, the numbers of its rows, and who of its recipients
    is suppressed, as (message, recipient), counted from 1."""

    accepted: Accepted
    public_id: str
    seed: int
    count: int
    number: int = 0
    messages: Sequence[int] = ()
    suppressed: dict[tuple[int, int], Suppression] = field(default_factory=dict)


def add(tx: Transaction, accepted: Sequence[Accepted], keep_seconds: float) -> list[Receipt | IdempotencyConflict]:
    """See interfaces.Ledger.add."""
    names = ids.new_submissions(len(accepted))
    drafts = [_Draft(each, *name, _recipients(each)) for each, name in zip(accepted, names, strict=True)]
    keyed: dict[Key, _Draft] = {}
    for draft in drafts:
        if draft.accepted.key is not None:
            keyed.setdefault(_key(draft.accepted), draft)
    taken = _claim(tx, keyed, keep_seconds) if keyed else {}
    new = drafts
    if keyed:
        new = [d for d in drafts if d.accepted.key is None or (keyed[k := _key(d.accepted)] is d and k not in taken)]
    _insert(tx, new)
    receipts = {draft.public_id: _receipt(draft) for draft in new}
    return [receipts.get(draft.public_id) or _again(tx, draft.accepted, keyed, taken, receipts) for draft in drafts]


def add_empty(tx: Transaction, accepted: Accepted) -> tuple[int, str]:
    """A submission whose messages come later: its number, and its public id."""
    ((public_id, seed),) = ids.new_submissions(1)
    draft = _Draft(accepted, public_id, seed, 0)
    _insert(tx, [draft])
    return draft.number, public_id


def _recipients(accepted: Accepted) -> int:
    return sum([len(message.deliveries) for message in accepted.messages])


def _key(accepted: Accepted) -> Key:
    return storable(accepted.key or ""), storable(accepted.producer)


def _claim(tx: Transaction, keyed: dict[Key, _Draft], keep_seconds: float) -> dict[Key, AnyRow]:
    """Enter the keys; return the rows of those that were entered before, by whom ever.

    Sorted, so that two callers with the same keys wait for each other in one order.
    """
    upsert = tx.insert(keys)
    # Of the key that is there, by name: as a column it would bring all keys into the FROM clause.
    kept = exists().where(submissions.c.public_id == literal_column("keys.submission"))
    enter = upsert.on_conflict_do_update(  # over a key that need not be remembered any more
        index_elements=[keys.c.key, keys.c.producer],
        set_={name: upsert.excluded[name] for name in _OF_A_KEY},
        where=(keys.c.keep_until <= tx.now) & ~kept,
    )
    taken: dict[Key, AnyRow] = {}
    for chunk in chunks(sorted(keyed)):
        tx.execute(enter, [_key_row(name, keyed[name], tx.now + keep_seconds) for name in chunk])
        owners = select(keys.c.key, keys.c.producer, keys.c.submission)
        mine = keys.c.key.in_([key for key, _ in chunk])
        rows = tx.execute(owners.where(mine)).all()
        others = {(row.key, row.producer): row.submission for row in rows if (row.key, row.producer) in keyed}
        before = [owner for name, owner in others.items() if owner != keyed[name].public_id]
        for row in tx.execute(select(keys).where(mine, keys.c.submission.in_(before))) if before else ():
            taken[row.key, row.producer] = row
    return taken


def _key_row(name: Key, draft: _Draft, keep_until: float) -> dict[str, Any]:
    return {
        "key": name[0],
        "producer": name[1],
        "submission": draft.public_id,
        "accepted": draft.count,
        "fingerprints": draft.accepted.fingerprints,
        "keep_until": keep_until,
        "gone": None,
    }


def _insert(tx: Transaction, drafts: Sequence[_Draft]) -> None:
    """Number new submissions, and write their rows."""
    submission_numbers = tx.numbers(submissions, len(drafts))
    message_numbers = tx.numbers(messages, sum(len(draft.accepted.messages) for draft in drafts))
    last = 0
    for draft, number in zip(drafts, submission_numbers, strict=True):
        first, last = last, last + len(draft.accepted.messages)
        draft.number, draft.messages = number, message_numbers[first:last]
    if found := of_addresses(tx, _addresses(drafts)):
        for draft in drafts:
            draft.suppressed = _suppressed(draft.accepted, found)
    now = tx.now
    message_rows: list[Values] = []
    delivery_rows: list[Values] = []
    suppressed_rows: list[Values] = []
    for draft in drafts:
        _add_rows(draft, now, message_rows, delivery_rows)
        if draft.suppressed:
            suppressed_rows += _suppressed_rows(draft, now)
    load(tx, submissions, _SUBMISSION, [_submission_row(draft, now) for draft in drafts])
    load(tx, messages, _MESSAGE, message_rows)
    load(tx, deliveries, _DELIVERY, delivery_rows)
    load(tx, deliveries, _SUPPRESSED, suppressed_rows)
    using.write(tx, [use for draft in drafts for use in _uses(draft)])


def _addresses(drafts: Sequence[_Draft]) -> set[str]:
    return {
        normal(delivery.rcpt)
        for draft in drafts
        for message in draft.accepted.messages
        for delivery in message.deliveries
    }


def _suppressed(accepted: Accepted, found: Found) -> dict[tuple[int, int], Suppression]:
    suppressed = {}
    for n, message in enumerate(accepted.messages, 1):
        for k, delivery in enumerate(message.deliveries, 1):
            held = holding(found.get(normal(delivery.rcpt), ()), accepted.list)
            if held is not None:
                suppressed[n, k] = held
    return suppressed


def _submission_row(draft: _Draft, now: float) -> Values:
    accepted = draft.accepted
    return (
        draft.number,
        draft.public_id,
        draft.seed,
        accepted.lane,
        accepted.relay,
        accepted.template,
        accepted.template_name,
        written(accepted.shared),
        draft.count,
        now,
        accepted.send_at,
        accepted.lifetime,
        accepted.if_in_doubt,
        written(accepted.tags),
        written(accepted.metadata),
        written(labels(accepted.metadata)),
        storable(accepted.producer),
        None if accepted.key is None else storable(accepted.key),
        True,
        accepted.list,
    )


def _uses(draft: _Draft) -> list[tuple[int, str]]:
    shared, mine = draft.accepted.shared, [message.own for message in draft.accepted.messages]
    return [(draft.number, blob) for blob in sorted(attached([shared, *mine]))]


def _add_rows(draft: _Draft, now: float, message_rows: list[Values], delivery_rows: list[Values]) -> None:
    """The rows of its messages and of their deliveries."""
    accepted, suppressed = draft.accepted, draft.suppressed
    shared = _shared(draft, State.QUEUED, now)
    for n, (number, message) in enumerate(zip(draft.messages, accepted.messages, strict=True), 1):
        own = message.own.get("metadata")
        said = written(labels({**accepted.metadata, **own})) if own else None
        secrets = secrets_of(accepted.secrets, message.secrets)
        if suppressed and secrets is not None and _silent(draft, n, message):
            secrets = WIPED
        message_rows.append((number, draft.number, n, written(message.own), said, written(secrets)))
        for k, delivery in enumerate(message.deliveries, 1):
            if not suppressed or (n, k) not in suppressed:
                delivery_rows.append((number, k, delivery.rcpt, delivery.kind, *shared))


def _suppressed_rows(draft: _Draft, now: float) -> list[Values]:
    """The rows of those of its recipients who are suppressed, with what their timelines begin with."""
    shared = _shared(draft, State.SUPPRESSED, now)
    rows: list[Values] = []
    for (n, k), held in draft.suppressed.items():
        delivery = draft.accepted.messages[n - 1].deliveries[k - 1]
        event = timeline.last(State.SUPPRESSED, now, text=why(held))
        rows.append((draft.messages[n - 1], k, delivery.rcpt, delivery.kind, *shared, *event.values()))
    return rows


def _shared(draft: _Draft, state: State, now: float) -> Values:
    """What is the same in all its deliveries in this state."""
    accepted = draft.accepted
    due = now if accepted.send_at is None else accepted.send_at
    expires = due + accepted.lifetime if accepted.expires_at is None else accepted.expires_at
    return draft.number, accepted.lane, accepted.relay, state.value, due, expires, now, 0, 0


def _silent(draft: _Draft, n: int, message: AcceptedMessage) -> bool:
    """Whether a message goes to nobody."""
    return all((n, k) in draft.suppressed for k in range(1, len(message.deliveries) + 1))


def _receipt(draft: _Draft) -> Receipt:
    rcpts, left = [], RECEIPT_RECIPIENTS
    for message in draft.accepted.messages:
        if left <= 0:
            break
        rcpts.append([delivery.rcpt for delivery in message.deliveries[:left]])
        left -= len(message.deliveries)
    suppressed = draft.suppressed
    listing = Listing(draft.public_id, draft.seed, rcpts, suppressed)
    numbers = tuple(draft.messages)
    if not suppressed:
        return Receipt(draft.public_id, draft.count, State.QUEUED, recipients=listing, message_ids=numbers)
    each = zip(numbers, enumerate(draft.accepted.messages, 1), strict=True)
    return Receipt(
        draft.public_id,
        draft.count,
        State.SUPPRESSED if len(suppressed) == draft.count else State.QUEUED,
        suppressed=len(suppressed),
        recipients=listing,
        message_ids=tuple(number for number, (n, message) in each if not _silent(draft, n, message)),
    )


def _again(
    tx: Transaction,
    accepted: Accepted,
    keyed: dict[Key, _Draft],
    taken: dict[Key, AnyRow],
    receipts: dict[str, Receipt],
) -> Receipt | IdempotencyConflict:
    """The answer to a key that was used before, in an earlier call or earlier in this one."""
    key = _key(accepted)
    row, first = taken.get(key), keyed[key]
    public_id = row.submission if row else first.public_id
    differs = differing(row.fingerprints if row else first.accepted.fingerprints, accepted.fingerprints)
    if differs:
        return IdempotencyConflict(accepted.key or "", public_id, differs)
    if row is None:
        return replace(receipts[public_id], duplicate=True, message_ids=())
    return _standing(tx, public_id, row.accepted)


def _standing(tx: Transaction, public_id: str, accepted: int) -> Receipt:
    """The receipt of a submission that has been accepted before, with its first recipients as they stand now."""
    suppressed = tx.execute(
        select(func.count())
        .select_from(deliveries)
        .join(submissions, submissions.c.id == deliveries.c.submission_id)
        .where(submissions.c.public_id == public_id, deliveries.c.state == State.SUPPRESSED.value)
    ).scalar_one()
    rows = tx.execute(
        select(submissions.c.seed, messages.c.n, deliveries.c.k, deliveries.c.rcpt, deliveries.c.state)
        .join(messages, messages.c.submission_id == submissions.c.id)
        .join(deliveries, deliveries.c.message_id == messages.c.id)
        .where(submissions.c.public_id == public_id)
        .order_by(messages.c.n, deliveries.c.k)
        .limit(RECEIPT_RECIPIENTS)
    ).all()
    recipients = tuple(
        ReceiptRecipient(ids.delivery_id(ids.message_id(public_id, row.seed, row.n), row.k), row.rcpt, row.state)
        for row in rows
    )
    state = standing(row.state for row in rows)
    return Receipt(public_id, accepted, state, duplicate=True, suppressed=suppressed, recipients=recipients)
