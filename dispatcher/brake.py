"""A campaign's own brake: what the relays have answered of late, and whether that is a reason to stop."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from dispatcher.delivery import Settlement
from dispatcher.reply import Phase, Reply, ReplyClass, classify

LOOKED_AT = 500  # replies
REFUSED = LOOKED_AT // 20  # of these may be refusals: 5 %
STREAK = 50
_QUOTA = "5.4.5"  # what large providers answer once the day's mails are used up
# What differs from mail to mail in the same answer: addresses, and words with a digit in them (queue ids, numbers).
_VARIES = re.compile(r"<[^>]*>|\S+@\S+|\b\w*\d\w*\b")
_SHOWN = 200


class Brake(NamedTuple):
    """What is remembered: the last replies, oldest first, each ``0`` (taken) or ``1`` (refused); what all of the last
    ``streak`` replies said."""

    replies: str = ""
    text: str = ""
    streak: int = 0


def fed(brake: Brake, settlements: Iterable[Settlement]) -> tuple[Brake, str]:
    """The brake after these, and why the campaign must pause; empty: it need not. Silence is no reply."""
    replies, text, streak = brake
    reason = ""
    for settled in settlements:
        if settled.code is None:
            continue
        refused = settled.code >= 500  # noqa: PLR2004 - RFC 5321 section 4.2.1
        replies += "1" if refused else "0"
        if settled.code < 400:  # noqa: PLR2004 - as above
            text, streak = "", 0
            continue
        said = _VARIES.sub("…", settled.text)
        text, streak = said, streak + 1 if said == text else 1
        reason = reason or _stop(settled, streak)
    replies = replies[-LOOKED_AT:]
    refusals = replies.count("1")
    if refusals > REFUSED and not reason and "1" in replies:
        reason = f"{refusals} of the last {len(replies)} replies were refusals"
    return Brake(replies, text, streak), reason


def _stop(settled: Settlement, streak: int) -> str:
    """Whether this refusal is reason enough: the relay's own quota or account, or the same again and again."""
    reply = Reply(settled.code or 0, settled.text, settled.enhanced, Phase(settled.phase or Phase.FINAL))
    shown = str(reply)[:_SHOWN]
    if reply.enhanced == _QUOTA or classify(reply) is ReplyClass.ACCOUNT:
        return f"the relay lets no more through: {shown}"
    return f"{streak} replies in a row said: {shown}" if streak >= STREAK else ""
