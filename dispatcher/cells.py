"""Cells of a table that goes out to a spreadsheet."""

_FORMULA = "=", "+", "-", "@", "\t", "\r"


def defused(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: such a one gets an apostrophe."""
    return f"'{text}" if text.startswith(_FORMULA) else text
