"""A durable mail dispatcher. The public names; each is imported when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dispatcher.campaign import CampaignSpec as CampaignSpec
    from dispatcher.delivery import Actor as Actor
    from dispatcher.dispatcher import Dispatcher as Dispatcher
    from dispatcher.emitted import Event as Event
    from dispatcher.emitted import EventReceipt as EventReceipt
    from dispatcher.errors import DispatcherError as DispatcherError
    from dispatcher.errors import SubmissionError as SubmissionError
    from dispatcher.mail import Attachment as Attachment
    from dispatcher.mail import Receipt as Receipt
    from dispatcher.mail import Recipient as Recipient
    from dispatcher.mail import Submission as Submission
    from dispatcher.schedule import ScheduleSpec as ScheduleSpec

__version__ = "0.1.0"
_HOMES = {
    "Actor": "delivery",
    "Attachment": "mail",
    "CampaignSpec": "campaign",
    "Dispatcher": "dispatcher",
    "DispatcherError": "errors",
    "Event": "emitted",
    "EventReceipt": "emitted",
    "Receipt": "mail",
    "Recipient": "mail",
    "ScheduleSpec": "schedule",
    "Submission": "mail",
    "SubmissionError": "errors",
}
__all__ = [
    "Actor",
    "Attachment",
    "CampaignSpec",
    "Dispatcher",
    "DispatcherError",
    "Event",
    "EventReceipt",
    "Receipt",
    "Recipient",
    "ScheduleSpec",
    "Submission",
    "SubmissionError",
]


def __getattr__(name: str) -> Any:
    """Import a public name; a process that needs only one of them does not pay for the rest."""
    if home := _HOMES.get(name):
        return getattr(import_module(f"dispatcher.{home}"), name)
    raise AttributeError(f"module 'dispatcher' has no attribute {name!r}")
