"""The file that is made when its mail is leased: once, whatever happens to the mail afterwards."""

from collections.abc import Mapping
from typing import Any

from dispatcher.delivery import LeasedMessage
from dispatcher.errors import RenderError
from dispatcher.interfaces import Renderers, Reports


class Making:
    """Answers the attachment of a message that is to have one rendered. What was made stands in the ledger before it
    is sent, so that every attempt has the same bytes."""

    def __init__(self, reports: Reports, renderers: Renderers) -> None:
        self._reports, self._renderers = reports, renderers

    def __call__(self, leased: LeasedMessage) -> Mapping[str, Any]:
        """Raises RenderError: this mail cannot be sent."""
        if (kept := self._reports.made(leased.id)) is not None:
            return kept
        asked = leased.own["render"]
        if asked["name"] not in self._renderers.names:
            raise RenderError(f"renderer {asked['name']}", "is not in [reports] renderers of this worker")
        made = self._renderers.render(asked["name"], asked["filename"], asked["values"])
        return self._reports.keep_made(leased.id, made)


def kept(reports: Reports, leased: LeasedMessage) -> Mapping[str, Any]:
    """The same, of what was made already. Raises RenderError."""
    found = reports.made(leased.id)
    if found is None:
        raise RenderError("renderer", "its file is made when it is sent")
    return found
