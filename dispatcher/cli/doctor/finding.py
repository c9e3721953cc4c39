"""What ``doctor`` says about one thing."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it (empty when all is well)."""

    what: str
    level: str
    found: str
    advice: str = ""
