"""Taking mail in: keys first, so that whoever comes second adds nothing, then rows in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Table, delete, exists, insert, select, tuple_

from dispatcher import ids
from dispatcher.adapters.sql.database import Transaction, chunks
from dispatcher.adapters.sql.schema import deliveries, keys, messages, submissions, templates
from dispatcher.delivery import Lane, State
from dispatcher.errors import IdempotencyConflict, NotFound
from dispatcher.ledger import RECEIPT_RECIPIENTS, differing, labels, secrets_of, standing, storable
from dispatcher.mail import Accepted, Receipt, ReceiptRecipient

Key = tuple[str, str]


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


def _claim(tx: Transaction, keyed: dict[Key, _Draft], keep_seconds: float) -> dict[Key, Any]:
    """Enter the keys; return the rows of those that were entered before, by whom ever.

    Sorted, so that two callers with the same keys wait for each other in one order.
    """
    taken: dict[Key, Any] = {}
    for chunk in chunks(sorted(keyed)):
        these = tuple_(keys.c.key, keys.c.producer).in_(chunk)
        kept = exists().where(submissions.c.public_id == keys.c.submission)
        tx.execute(delete(keys).where(these, keys.c.keep_until <= tx.now, ~kept))
        rows = [
            {
                "key": key,
                "producer": producer,
                "submission": draft.public_id,
                "accepted": draft.count,
                "fingerprints": draft.accepted.fingerprints,
                "keep_until": tx.now + keep_seconds,
            }
            for key, producer in chunk
            for draft in (keyed[key, producer],)
        ]
        tx.execute(tx.insert(keys).on_conflict_do_nothing(), rows)
        for row in tx.execute(select(keys).where(these)):
            if row.submission != keyed[row.key, row.producer].public_id:
                taken[row.key, row.producer] = row
    return taken


def _insert(tx: Transaction, drafts: list[_Draft]) -> dict[str, Receipt]:
    """Write the rows of new submissions; their receipts by public id."""
    submission_ids = _numbered(tx, submissions, [_submission_row(tx, draft) for draft in drafts])
    pairs = [(draft, n) for draft in drafts for n in range(1, len(draft.accepted.messages) + 1)]
    numbers = {draft.public_id: number for draft, number in zip(drafts, submission_ids, strict=True)}
    message_ids = _numbered(tx, messages, [_message_row(draft, n, numbers[draft.public_id]) for draft, n in pairs])
    rows: list[dict[str, Any]] = []
    new: dict[str, list[int]] = {draft.public_id: [] for draft in drafts}
    for (draft, n), message in zip(pairs, message_ids, strict=True):
        new[draft.public_id].append(message)
        rows += _delivery_rows(tx, draft, n, numbers[draft.public_id], message)
    for chunk in chunks(rows):
        tx.many(insert(deliveries), chunk)
    return {draft.public_id: _receipt(draft, new[draft.public_id]) for draft in drafts}


def _numbered(tx: Transaction, table: Table, rows: list[dict[str, Any]]) -> list[int]:
    """Insert the rows; the ids that they got, in their order."""
    found: list[int] = []
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    for chunk in chunks(rows):
        found += tx.execute(statement, chunk).scalars()
    return found


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
    }


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
    taken: dict[Key, Any],
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


def put_template(tx: Transaction, digest: str, name: str, files: dict[str, str]) -> None:
    """See interfaces.Ledger.put_template."""
    row = {"digest": digest, "name": name, "files": files, "published_at": tx.now}
    tx.execute(tx.insert(templates).on_conflict_do_nothing(), row)


def template(tx: Transaction, digest: str) -> tuple[str, dict[str, str]]:
    """See interfaces.Ledger.template."""
    row = tx.execute(select(templates).where(templates.c.digest == digest)).one_or_none()
    if row is None:
        raise NotFound(f"no template version {digest}")
    return row.name, row.files
