"""What ``doctor`` says about clocks."""

from dispatcher.cli.doctor.finding import OK, WARN, Finding
from dispatcher.cli.output import duration

_SKEW_SECONDS = 2.0


def clock(whose: str, skew: float) -> Finding:
    """``skew``: seconds that this host's clock is ahead of the other one."""
    if abs(skew) > _SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        found = f"this host's is {duration(abs(skew))} {way} {whose}"
        return Finding("clock", WARN, found, "let both hosts keep time by NTP")
    return Finding("clock", OK, f"within {abs(skew) * 1000:.0f} ms of {whose}")
