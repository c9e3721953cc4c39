"""Which attachments the submissions use, whichever store they are in."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Text, select, type_coerce, update

from dispatcher.adapters.sql.database import AnyRow, Database, Transaction, chunks
from dispatcher.adapters.sql.schema import blob_uses, messages, submissions
from dispatcher.ledger import attached

_AT_ONCE = 500
_UNNOTED = submissions.c.blobs_noted.is_(None)


def write(tx: Transaction, uses: Iterable[tuple[int, str]]) -> None:
    """Enter pairs of a submission's number and a blob; those that are there already stay."""
    rows = [{"submission_id": submission, "blob": blob} for submission, blob in uses]
    if rows:
        tx.execute(tx.insert(blob_uses).on_conflict_do_nothing(), rows)


def note(database: Database) -> bool:
    """Note the attachments of some submissions that a program of schema 1.0 took in; False when there are none.

    They are read without a lock, since the content of a submission never changes.
    """
    with database.reading() as tx:
        query = select(submissions.c.id, submissions.c.shared).where(_UNNOTED).order_by(submissions.c.id)
        found = tx.execute(query.limit(_AT_ONCE)).all()
        if not found:
            return False
        used = {row.id: attached([row.shared]) for row in found}
        for row in _own(tx, list(used)):
            used[row.submission_id] |= attached([row.own])
    with database.writing() as tx:
        _enter(tx, used)
    return True


def _own(tx: Transaction, numbers: Sequence[int]) -> Iterable[AnyRow]:
    """What messages of these submissions have of their own, where that may hold attachments."""
    query = select(messages.c.submission_id, messages.c.own).where(
        messages.c.submission_id.in_(numbers), type_coerce(messages.c.own, Text).like('%"attachments":%')
    )
    return tx.execute(query.execution_options(yield_per=1000))


def _enter(tx: Transaction, used: dict[int, set[str]]) -> None:
    unnoted = select(submissions.c.id).where(submissions.c.id.in_(list(used)), _UNNOTED).order_by(submissions.c.id)
    mine = tx.execute(unnoted.with_for_update(skip_locked=True)).scalars().all()
    write(tx, ((number, blob) for number in mine for blob in sorted(used[number])))
    tx.execute(update(submissions).where(submissions.c.id.in_(mine)).values(blobs_noted=True))


def unused(tx: Transaction, blobs: Sequence[str]) -> list[str]:
    """See interfaces.Ledger.unused."""
    if tx.execute(select(submissions.c.id).where(_UNNOTED).limit(1)).first() is not None:
        return []
    used: set[str] = set()
    for chunk in chunks(blobs):
        used |= set(tx.execute(select(blob_uses.c.blob).where(blob_uses.c.blob.in_(chunk)).distinct()).scalars())
    return [blob for blob in blobs if blob not in used]
