"""What has become of people's steps, line by line: of the real ones, and of those that are only simulated."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispatcher.cli.output import document, table

if TYPE_CHECKING:
    from dispatcher.automations import Line

_COLUMNS = "at", "automation", "key", "to", "step", "outcome", "what"


def say_lines(found: Sequence["Line"], as_json: bool) -> None:
    """As a table, or as JSON."""
    if as_json:
        document([each._asdict() for each in found])
    else:
        show_lines(found)


def show_lines(found: Sequence["Line"]) -> None:
    """A line for each step that somebody is past."""
    table(_COLUMNS, found)
