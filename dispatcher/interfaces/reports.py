"""What keeps reports, as a part of the ledger."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dispatcher.campaign import Expanded
from dispatcher.delivery import Actor, State
from dispatcher.mail import Accepted
from dispatcher.report_job import Asked, Report, ReportRow


class Reports(Protocol):
    """Reports as the ledger keeps them. A method is one transaction, on the ledger's clock. Raises NotFound for a name
    that is nobody's."""

    def begin(self, asked: Asked, accepted: Accepted, actor: Actor) -> Report:
        """A new one, with a submission that is held until all its rows are there; or the one of this name that stands
        there already, if its digest is the same. Raises SubmissionError for another one of that name. An act."""
        ...

    def add(self, report: Report, rows: Sequence[Expanded], blobs: Sequence[str]) -> bool:
        """Add the next rows as messages, and note that it uses these files. With the last one it is let go.

        False, and nothing is changed, unless its cursor stands where ``report`` has it.
        """
        ...

    def cancel(self, name: str, actor: Actor) -> Report:
        """Cancelled, with its mails held and no more added. Raises SubmissionError for one that is over. An act."""
        ...

    def get(self, name: str) -> Report: ...

    def listed(self) -> list[Report]:
        """All of them, the newest first."""
        ...

    def rows(self, report: Report, after: int, limit: int) -> list[ReportRow]:
        """Those behind the message ``after``, in their order; none when its retention is over."""
        ...

    def sums(self, report: Report) -> dict[State, int]:
        """Its mails by state; counted anew each time."""
        ...

    def made(self, message: int) -> Mapping[str, Any] | None:
        """The attachment that was rendered for this message, as ``Accepted.shared`` has them; None: none was yet."""
        ...

    def keep_made(self, message: int, made: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep what was rendered for a message, and note that it is used. The first one stays, and is the answer."""
        ...

    def pending(self) -> bool:
        """Whether one may be over, or its owner is to be told."""
        ...

    def moving(self) -> list[Report]:
        """Those that are, the oldest first."""
        ...

    def finish(self, report: Report) -> bool:
        """Finished, or cancelled for good, when no mail of it is live; whether it is now."""
        ...

    def reported(self, report: Report) -> None:
        """Its owner was told."""
        ...
