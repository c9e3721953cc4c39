"""What a proof needs of the ledger in memory."""

from dispatcher.delivery import State
from dispatcher.ledger import HOST_LOST
from dispatcher.memory.rows import DeliveryRow, SubmissionRow
from dispatcher.records import Account


def account(row: DeliveryRow, now: float) -> Account:
    """One delivery as ``interfaces.Ledger.accounts`` has it."""
    return Account(
        id=row.public_id,
        message=row.message.public_id,
        rcpt=row.rcpt,
        state=row.state,
        doubts=sum(event.unknown for event in row.history),
        host_lost=sum(event.text == HOST_LOST for event in row.history),
        overdue=max(0.0, now - row.lease_until) if row.state is State.LEASED else 0.0,
        by_hand=row.state is State.SENT and row.history[-1].actor is not None,
    )


def sums(row: SubmissionRow) -> tuple[str, int, int]:
    """Its id, how many recipients were accepted, and how many rows there are."""
    return row.public_id, row.count, sum(1 for _ in row.deliveries)
