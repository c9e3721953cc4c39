"""What keeps campaigns."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dispatcher.campaign import Campaign, CampaignSpec, CampaignState, Expanded, Sums
from dispatcher.delivery import Actor
from dispatcher.mail import Accepted


class Campaigns(Protocol):
    """Campaigns as the ledger keeps them. A method is one transaction; of two who change the same one, the second is
    told how it stands: SubmissionError. Raises NotFound for a name that is nobody's."""

    def create(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        """A draft. Raises SubmissionError for a name that is taken."""
        ...

    def get(self, name: str) -> Campaign: ...

    def listed(self, *states: CampaignState) -> list[Campaign]:
        """Those in these states, or all; the newest first."""
        ...

    def revise(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        """Change one that was not started; it is a draft again."""
        ...

    def check(self, seen: Campaign, version: int, found: Mapping[str, Any], actor: Actor) -> Campaign:
        """Keep what a check has found of a campaign as it was ``seen``, and freeze this version of its audience. It is
        checked when ``found["ok"]``, else a draft."""
        ...

    def start(self, seen: Campaign, accepted: Accepted, start_at: float | None, actor: Actor) -> Campaign:
        """From checked, as it was ``seen``, to running, or scheduled: with a submission, to which messages are added
        later. An act."""
        ...

    def begin_due(self) -> int:
        """Let those run whose time has come; how many."""
        ...

    def expand(self, campaign: Campaign, upto: int, rows: Sequence[Expanded], *, filtered: int, complete: bool) -> bool:
        """Add these rows of its audience as messages, and move its cursor ``upto`` the last row that was looked at;
        ``filtered``: how many of those are not meant. Who is suppressed is kept as such.

        False, and nothing is changed, unless it is running and its cursor stands where ``campaign`` has it.
        """
        ...

    def act(self, name: str, verb: str, actor: Actor) -> Campaign:
        """``pause``, ``resume``, ``cancel`` or ``retry`` (see ``campaign.ACTS``), with a pause of its mails or the end
        of it. An act."""
        ...

    def pending(self) -> bool:
        """Whether there is a campaign that is to be moved on."""
        ...

    def moving(self) -> list[Campaign]:
        """Those that are, oldest first: running, due, cancelled and not ended, or over and not reported."""
        ...

    def live(self, campaign: Campaign) -> bool:
        """Whether any of its mails waits, is with a worker, or is held in doubt."""
        ...

    def finish(self, campaign: Campaign) -> bool:
        """Finished, or cancelled for good, with its sums, when no mail is live and they balance; whether it is now."""
        ...

    def reported(self, campaign: Campaign) -> None:
        """Its owner was told."""
        ...

    def sums(self, campaign: Campaign) -> Sums:
        """What became of every row; counted anew each time."""
        ...
