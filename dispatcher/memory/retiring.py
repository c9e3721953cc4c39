"""Taking out what is over its retention, of the ledger in memory."""

from collections.abc import Callable

from dispatcher.delivery import SETTLED, Lane
from dispatcher.memory.rows import SubmissionRow
from dispatcher.memory.store import Store
from dispatcher.retention import Retention


def retire(
    store: Store, retention: Retention, now: float, limit: int, goes_on: Callable[[str], bool]
) -> tuple[list[SubmissionRow], int]:
    """Remove up to so many deliveries, the oldest first: the submissions that are gone, and how many deliveries.
    ``goes_on``: whether messages may still be added to a submission."""
    gone: list[SubmissionRow] = []
    taken = 0
    for submission in list(store.submissions.values()):
        if goes_on(submission.public_id) or not _over(submission, retention, now):
            continue
        taken += _empty(store, submission, limit - taken)
        if submission.messages:
            break
        gone.append(store.submissions.pop(submission.public_id))
    return gone, taken


def _over(submission: SubmissionRow, retention: Retention, now: float) -> bool:
    since = now - retention.seconds(Lane(submission.accepted.lane), submission.accepted.tags)
    return all(delivery.state in SETTLED and delivery.changed_at <= since for delivery in submission.deliveries)


def _empty(store: Store, submission: SubmissionRow, limit: int) -> int:
    """Remove up to so many deliveries of a submission, and the messages that have none left; how many deliveries."""
    taken = 0
    while submission.messages:
        message = submission.messages[-1]
        while message.deliveries:
            if taken == limit:
                return taken
            del store.deliveries[message.deliveries.pop().id]
            submission.count -= 1
            taken += 1
        del store.messages[submission.messages.pop().id]
    return taken
