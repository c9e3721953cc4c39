"""What ``doctor`` says about attachments: where they are read from, and where they are kept."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dispatcher.cli.doctor.finding import OK, WARN, Finding

if TYPE_CHECKING:
    from dispatcher.settings import Settings


def attachments(settings: "Settings") -> Iterator[Finding]:
    """Each folder that they may lie in, and their store."""
    for folder in settings.attachments_dirs:
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield Finding("attachments", OK, f"{folder} can be read")
        else:
            yield Finding("attachments", WARN, f"{folder} cannot be read", "correct DISPATCHER_ATTACHMENTS_DIRS")
    if settings.blobs is None:
        yield Finding("attachments", OK, "kept in the ledger")
    elif settings.ledger.startswith("postgresql"):
        found = f"kept in {settings.blobs}, where workers on other servers cannot read them"
        yield Finding("attachments", WARN, found, "set DISPATCHER_BLOBS_URL=ledger: if there are other servers")
    else:
        yield Finding("attachments", OK, f"kept in {settings.blobs}")
