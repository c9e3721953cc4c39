"""The seams: what the use cases ask of the outside world. Each has a real adapter and a fake in ``testing``;
one contract suite under ``tests/contract`` runs on both."""

from dispatcher.interfaces.audiences import Audiences, Rows
from dispatcher.interfaces.automations import Automations, EventRow, Loaded, Step, receipt_of
from dispatcher.interfaces.blobs import Blobs
from dispatcher.interfaces.campaigns import Campaigns
from dispatcher.interfaces.clock import Clock
from dispatcher.interfaces.events import EventSink
from dispatcher.interfaces.files import FileSource, Found, ManifestSource, Renderers
from dispatcher.interfaces.journal import Journal, Journals
from dispatcher.interfaces.ledger import Ledger
from dispatcher.interfaces.limiter import RateLimiter
from dispatcher.interfaces.queue import Queue
from dispatcher.interfaces.reports import Reports
from dispatcher.interfaces.schedules import Schedules
from dispatcher.interfaces.suppressions import Suppressions
from dispatcher.interfaces.transport import Transport

__all__ = [
    "Audiences",
    "Automations",
    "Blobs",
    "Campaigns",
    "Clock",
    "EventRow",
    "EventSink",
    "FileSource",
    "Found",
    "Journal",
    "Journals",
    "Ledger",
    "Loaded",
    "ManifestSource",
    "Queue",
    "RateLimiter",
    "Renderers",
    "Reports",
    "Rows",
    "Schedules",
    "Step",
    "Suppressions",
    "Transport",
    "receipt_of",
]
