"""What keeps schedules and their occurrences."""

from typing import Protocol

from dispatcher.delivery import Actor
from dispatcher.schedule import Due, Noted, Occurrence, OccurrenceState, Schedule, ScheduleSpec, Standing


class Schedules(Protocol):
    """Schedules and their occurrences as the ledger keeps them. A method is one transaction on the ledger's clock,
    which says what is due. Raises NotFound for a name that is nobody's."""

    def create(self, name: str, spec: ScheduleSpec, actor: Actor) -> Schedule:
        """Its occurrences begin now. Raises SubmissionError for a name that is taken. An act."""
        ...

    def get(self, name: str) -> Schedule: ...

    def listed(self) -> list[Schedule]:
        """All of them, by name."""
        ...

    def revise(self, seen: Schedule, spec: ScheduleSpec, actor: Actor) -> bool:
        """Go by another spec from now on; what is due stays so. An act.

        False, and nothing is changed, unless it stands as it was ``seen`` and all that has come up of it is noted.
        """
        ...

    def act(self, name: str, verb: str, actor: Actor) -> Schedule:
        """``pause``: nothing of it becomes due, nor is fired, but by hand; ``resume``: what came up meanwhile is caught
        up with. Raises SubmissionError where it is so already. An act."""
        ...

    def remove(self, name: str, actor: Actor) -> None:
        """With all its occurrences. An act."""
        ...

    def run_now(self, name: str, actor: Actor) -> Occurrence:
        """An occurrence by hand, paused or not, beside the others. It is at half of a second, which no other one is.
        Raises SubmissionError for the second one in the same second. An act."""
        ...

    def ripe(self, limit: int) -> list[Schedule]:
        """Those of which occurrences have come up that are not noted, the longest first."""
        ...

    def note(self, seen: Schedule, noted: Noted) -> bool:
        """Enter these occurrences, and move on what was looked at. False, and nothing is changed, when somebody else
        did, or it is not as it was ``seen`` any more."""
        ...

    def due(self, limit: int) -> list[Due]:
        """What is to be fired, the oldest first."""
        ...

    def done(self, due: Due, state: OccurrenceState, outcome: str) -> bool:
        """What became of one that was due; whether it was so still."""
        ...

    def history(self, name: str, limit: int) -> list[Occurrence]:
        """The last ones, the newest first."""
        ...

    def pending(self) -> bool:
        """Whether there is anything to note or to fire."""
        ...

    def standing(self, seconds: float) -> Standing:
        """How all of them stand; what has failed in the last so many seconds."""
        ...

    def forget(self, seconds: float, limit: int) -> int:
        """Remove up to so many occurrences that ended longer ago than that; how many."""
        ...
