"""The exit codes, and the one line that an error is told in."""

import sys

from dispatcher.errors import DispatcherError, LedgerUnavailable, TransportError

OK, SOME_FAILED, USAGE, OUT_OF_REACH, INTERRUPTED = 0, 1, 2, 3, 130
# The first class that fits wins.
_CODES: tuple[tuple[type[DispatcherError], int], ...] = (
    (LedgerUnavailable, OUT_OF_REACH),
    (TransportError, OUT_OF_REACH),
    (DispatcherError, USAGE),
)


def told(error: DispatcherError) -> int:
    """Say on stderr what is wrong; the exit code for it."""
    sys.stderr.write(f"dispatcher: {' '.join(str(error).split())}\n")
    return next(code for kind, code in _CODES if isinstance(error, kind))
