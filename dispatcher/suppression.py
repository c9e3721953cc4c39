"""Whom not to write to: the addresses, how far each is suppressed, and why. Values, and the rules over them.

An address is suppressed in a scope: for all mail, for all that is marketing, or for one list. Mail of no list, such as
an order confirmation, is held by ``all`` alone.
"""

import enum
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from dispatcher.delivery import Settlement, State
from dispatcher.reply import Phase, Reply, ReplyClass, classify

ALL = "all"
MARKETING = "marketing"
_LIST = "list:"
MAX_LIST = 64  # characters of a list's name
# The reply says that there is no such mailbox, or will never be again (RFC 3463 sections 3.2 and 3.3, RFC 7505).
_GONE = frozenset(("5.1.1", "5.1.3", "5.1.6", "5.1.10", "5.2.1"))


class Reason(enum.StrEnum):
    """Why an address is suppressed."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    HAND = "hand"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One address in one scope, for good or ``until`` a time.

    ``address`` is compared as ``normal`` has it. ``evidence``: the reply, or whatever else shows it; ``origin``: the
    message that it came of, or the door. ``actor``: the person who did it. Times are seconds since the epoch, UTC;
    ``at`` 0 is the ledger's now.
    """

    address: str
    scope: str
    reason: Reason
    evidence: str = ""
    origin: str = ""
    at: float = 0.0
    until: float | None = None
    actor: str | None = None


def normal(address: str) -> str:
    """The address by which people and rows are compared: of what ``address.mailbox`` answers first, whose domain is in
    lower-case A-labels already; the local part in Unicode NFC, without its case."""
    if address.isascii():  # most often, and ten times as fast
        return address.lower()
    local, at, domain = address.rpartition("@")
    return f"{_folded(local)}{at}{domain.lower()}"


def _folded(text: str) -> str:
    """Without case, and of all ways to write it the one that is NFC (Unicode 15, definition 145)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def list_name(text: str) -> str:
    """The name of a list, in NFC. Raises ValueError unless it is 1 to 64 letters, digits, dots, dashes, underscores."""
    name = unicodedata.normalize("NFC", text)
    if not 0 < len(name) <= MAX_LIST or len(_folded(name)) > MAX_LIST:
        raise ValueError(f"a list's name has 1 to {MAX_LIST} characters")
    if not all(each.isalnum() or each in "._-" or unicodedata.category(each)[0] == "M" for each in name):
        raise ValueError(f"{text!r} is no name for a list: letters, digits, . _ and - of any script")
    return name


def of_list(name: str) -> str:
    """The scope of a list. ``News`` and ``news`` are one: who left the one is not written to by the other."""
    return f"{_LIST}{_folded(list_name(name))}"


def scope_of(text: str) -> str:
    """A scope as a person writes it: ``all``, ``marketing``, ``list:NAME``. Raises ValueError."""
    if text in (ALL, MARKETING):
        return text
    if text.startswith(_LIST):
        return of_list(text.removeprefix(_LIST))
    raise ValueError(f"{text!r} is no scope: write {ALL}, {MARKETING} or {_LIST}NAME")


def scopes(list: str | None) -> tuple[str, ...]:  # noqa: A002 - the submission's field
    """The scopes that hold mail of this list (None: of no list), the widest first."""
    return (ALL,) if list is None else (ALL, MARKETING, of_list(list))


def holding(found: Iterable[Suppression], list: str | None) -> Suppression | None:  # noqa: A002 - as above
    """Which of the suppressions of one address holds mail of this list; the widest, where several do."""
    by_scope = {each.scope: each for each in found}
    return next((by_scope[scope] for scope in scopes(list) if scope in by_scope), None)


def stands(before: Suppression, new: Suppression) -> bool:
    """Whether one that is there is as long as a new one for the same address and scope, which then changes nothing."""
    return before.until is None or (new.until is not None and new.until <= before.until)


def why(held: Suppression) -> str:
    """What a timeline says of a delivery that is suppressed."""
    return f"scope {held.scope}, reason {held.reason}"


def by_bounce(settlement: Settlement, recipients: int = 1) -> bool:
    """Whether this end of a delivery suppresses its address: the relay has said of the recipient, in as many words,
    that the mailbox is not there. Never an expiry, a policy, or a 5yz that nobody knows.

    Nor what was said after RCPT of a message with several ``recipients``: it is about one of them, and nobody knows
    which.
    """
    if settlement.state is not State.BOUNCED or settlement.enhanced not in _GONE:
        return False
    if settlement.code is None or settlement.code // 100 != 5:  # noqa: PLR2004 - RFC 5321 section 4.2.1
        return False
    phase = Phase(settlement.phase) if settlement.phase else Phase.FINAL
    if recipients > 1 and phase is not Phase.RCPT:
        return False
    said = Reply(settlement.code, settlement.text, settlement.enhanced, phase)
    return classify(said) is ReplyClass.RECIPIENT
