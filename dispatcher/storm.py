"""Tells a relay that defers everything from mail that is deferred."""

from collections import Counter

from dispatcher.reply import Outcome, Reply, ReplyClass, Result, classify

IN_A_ROW = 20


class Storm:
    """Counts, for each relay, the messages in a row that were deferred throughout; one process' view."""

    def __init__(self) -> None:
        self._deferred: Counter[str] = Counter()

    def note(self, outcome: Outcome, *, limit: int = IN_A_ROW) -> str:
        """Why the relay should be left alone for a while; empty as long as it should not be."""
        last = outcome.results[-1][1]
        if not _transient(last) or not all(_transient(result) for _, result in outcome.results):
            self._deferred.pop(outcome.relay, None)
            return ""
        self._deferred[outcome.relay] += 1
        if (count := self._deferred[outcome.relay]) < limit:
            return ""
        del self._deferred[outcome.relay]
        return f"{count} messages in a row were deferred, the last with {last}" if count > 1 else str(last)


def _transient(result: Result) -> bool:
    return isinstance(result, Reply) and not result.positive and classify(result) is ReplyClass.TRANSIENT
