"""Taking mail in: keys first, so that whoever comes second adds nothing, then rows in chunks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import exists, insert, literal_column, select

from dispatcher import ids
from dispatcher.adapters.sql import using
from dispatcher.adapters.sql.database import AnyRow, Transaction, chunks
from dispatcher.adapters.sql.schema import deliveries, keys, messages, submissions
from dispatcher.delivery import Lane, State
from dispatcher.errors import IdempotencyConflict
from dispatcher.ledger import RECEIPT_RECIPIENTS, attached, differing, labels, secrets_of, standing, storable
from dispatcher.mail import Accepted, Receipt, ReceiptRecipient

Key = tuple[str, str]
_OF_A_KEY = "submission", "accepted", "fingerprints", "keep_until", "gone"
_SUBMISSIONS, _MESSAGES, _DELIVERIES = insert(submissions), insert(messages), insert(deliveries)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A submission that is new, with what it is called from now on."""

    accepted: Accepted
    public_id: str
    seed: int

    @property
    def count(self) -> int:
        return sum(len(message.deliveries) for message in self.accepted.messages)


def add(tx: Transaction, accepted: Sequence[Accepted], keep_seconds: float) -> list[Receipt | IdempotencyConflict]:
    """See interfaces.Ledger.add."""
    drafts = [_Draft(each, ids.new_submission(), ids.new_seed()) for each in accepted]
    keyed: dict[Key, _Draft] = {}
    for draft in drafts:
        if draft.accepted.key is not None:
            keyed.setdefault(_key(draft.accepted), draft)
    taken = _claim(tx, keyed, keep_seconds)
    new = [d for d in drafts if d.accepted.key is None or (keyed[k := _key(d.accepted)] is d and k not in taken)]
    receipts = _insert(tx, new)
    return [receipts.get(draft.public_id) or _again(tx, draft.accepted, keyed, taken, receipts) for draft in drafts]


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


def _insert(tx: Transaction, drafts: list[_Draft]) -> dict[str, Receipt]:
    """Write the rows of new submissions; their receipts by public id."""
    pairs = [(draft, n) for draft in drafts for n in range(1, len(draft.accepted.messages) + 1)]
    submission_ids = dict(zip((draft.public_id for draft in drafts), tx.numbers(submissions, len(drafts)), strict=True))
    message_ids = tx.numbers(messages, len(pairs))
    new: dict[str, list[int]] = {draft.public_id: [] for draft in drafts}
    message_rows, delivery_rows = [], []
    for (draft, n), message in zip(pairs, message_ids, strict=True):
        submission = submission_ids[draft.public_id]
        new[draft.public_id].append(message)
        message_rows.append({"id": message, **_message_row(draft, n, submission)})
        delivery_rows += _delivery_rows(tx, draft, n, submission, message)
    tx.many(_SUBMISSIONS, [{"id": submission_ids[d.public_id], **_submission_row(tx, d)} for d in drafts])
    tx.many(_MESSAGES, message_rows)
    tx.many(_DELIVERIES, delivery_rows)
    using.write(tx, (use for draft in drafts for use in _uses(draft, submission_ids[draft.public_id])))
    return {draft.public_id: _receipt(draft, new[draft.public_id]) for draft in drafts}


def _submission_row(tx: Transaction, draft: _Draft) -> dict[str, Any]:
    accepted = draft.accepted
    return {
        "public_id": draft.public_id,
        "seed": draft.seed,
        "lane": Lane(accepted.lane).value,
        "relay": accepted.relay,
        "template": accepted.template,
        "template_name": accepted.template_name,
        "shared": accepted.shared,
        "accepted": draft.count,
        "accepted_at": tx.now,
        "send_at": accepted.send_at,
        "lifetime": accepted.lifetime,
        "if_in_doubt": accepted.if_in_doubt,
        "tags": accepted.tags,
        "metadata": accepted.metadata,
        "labels": labels(accepted.metadata),
        "producer": accepted.producer,
        "key": accepted.key,
        "blobs_noted": True,
    }


def _uses(draft: _Draft, submission: int) -> Iterator[tuple[int, str]]:
    contents = (draft.accepted.shared, *(message.own for message in draft.accepted.messages))
    return ((submission, blob) for blob in sorted(attached(contents)))


def _message_row(draft: _Draft, n: int, submission: int) -> dict[str, Any]:
    message = draft.accepted.messages[n - 1]
    own = message.own.get("metadata")
    return {
        "submission_id": submission,
        "n": n,
        "own": message.own,
        "labels": labels({**draft.accepted.metadata, **own}) if own else None,
        "secrets": secrets_of(draft.accepted.secrets, message.secrets),
    }


def _delivery_rows(tx: Transaction, draft: _Draft, n: int, submission: int, message: int) -> list[dict[str, Any]]:
    accepted = draft.accepted
    due = tx.now if accepted.send_at is None else accepted.send_at
    expires = due + accepted.lifetime if accepted.expires_at is None else accepted.expires_at
    return [
        {
            "message_id": message,
            "submission_id": submission,
            "lane": Lane(accepted.lane).value,
            "relay": accepted.relay,
            "k": k,
            "rcpt": delivery.rcpt,
            "kind": delivery.kind,
            "state": State.QUEUED.value,
            "due_at": due,
            "expires_at": expires,
            "changed_at": tx.now,
            "attempts": 0,
            "crashes": 0,
        }
        for k, delivery in enumerate(accepted.messages[n - 1].deliveries, 1)
    ]


def _receipt(draft: _Draft, message_ids: list[int]) -> Receipt:
    listed: list[ReceiptRecipient] = []
    for n, message in enumerate(draft.accepted.messages, 1):
        if len(listed) >= RECEIPT_RECIPIENTS:
            break
        name = ids.message_id(draft.public_id, draft.seed, n)
        for k, delivery in enumerate(message.deliveries, 1):
            listed.append(ReceiptRecipient(ids.delivery_id(name, k), delivery.rcpt, State.QUEUED))
    return Receipt(
        id=draft.public_id,
        accepted=draft.count,
        state=State.QUEUED,
        recipients=tuple(listed[:RECEIPT_RECIPIENTS]),
        message_ids=tuple(message_ids),
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
    return Receipt(public_id, accepted, standing(row.state for row in rows), duplicate=True, recipients=recipients)
