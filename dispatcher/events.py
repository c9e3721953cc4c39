"""What happened, as frozen values for whoever listens (logs now; webhooks and metrics later)."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dispatcher.delivery import Lane, State


class DeliveryTried(NamedTuple):  # there is one for each mail: a frozen dataclass takes three times as long to make
    """One recipient's attempt ended: the line that postmasters grep for.

    ``delay`` is the seconds since the mail was accepted or scheduled for; ``reply`` what the relay said, in one line.
    """

    id: str
    submission: str
    lane: Lane
    to: str
    relay: str
    state: State
    reply: str
    dsn: str | None
    delay: float
    attempt: int


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """A lease is through: for now no further attempt is told of."""


@dataclass(frozen=True, slots=True)
class RelayPaused:
    """The relay was in trouble, so nothing is leased for it until ``seconds`` from now."""

    relay: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RelayResumed:
    """A message came through a half-open relay: everybody uses it again."""

    relay: str


@dataclass(frozen=True, slots=True)
class SettingsKept:
    """Settings were written that cannot be used; those from before hold on."""

    reason: str


@dataclass(frozen=True, slots=True)
class LedgerAway:
    """Outcomes wait in memory since the ledger cannot take them; they are offered again every second."""

    reason: str
    waiting: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """A process of this host ended with work in hand: how many deliveries of it were answered, are in doubt, and went
    back unsent."""

    owner: str
    answered: int
    in_doubt: int
    back: int


@dataclass(frozen=True, slots=True)
class ReplayFailed:
    """A journal of a process that ended could not be taken up; it is tried again with the next look."""

    owner: str
    reason: str


@dataclass(frozen=True, slots=True)
class StuckEnded:
    """A process of this host held a lease that was over, or stood still, and was killed for it."""

    pid: int


@dataclass(frozen=True, slots=True)
class CampaignEnded:
    """A campaign is finished or cancelled: its deliveries by state, and why its owner could not be told, if so."""

    name: str
    state: str
    sums: Mapping[str, int]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ReportEnded:
    """All mails of a report are settled: its deliveries by state, and why its owner could not be told, if so."""

    name: str
    sums: Mapping[str, int]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class OccurrenceFailed:
    """An occurrence of a schedule, at this moment (seconds since the epoch), cannot be done."""

    schedule: str
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class EnrolmentFailed:
    """Somebody's step of an automation cannot be done; it waits for a person."""

    automation: str
    key: str
    step: str
    reason: str


Event = (
    DeliveryTried
    | BatchEnded
    | RelayPaused
    | RelayResumed
    | SettingsKept
    | LedgerAway
    | Replayed
    | ReplayFailed
    | StuckEnded
    | CampaignEnded
    | ReportEnded
    | OccurrenceFailed
    | EnrolmentFailed
)


def unfailing(sink: Callable[[Event], None]) -> Callable[[Event], None]:
    """The same sink for those that must go on whatever it does: an event may be lost, a delivery may not."""

    def tell(event: Event) -> None:
        try:
            sink(event)
        except Exception:
            logging.getLogger("dispatcher").exception("an event sink failed")

    return tell
