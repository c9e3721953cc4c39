"""What a relay said, and when it said it: replies, phases and their classes (RFC 5321, RFC 3463)."""

import enum
import re
from dataclasses import dataclass
from typing import NamedTuple

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")
MAX_TEXT = 1000


class Phase(enum.StrEnum):
    """The step of an SMTP session that a result belongs to. Up to AUTH trouble is the relay's, not the mail's."""

    CONNECT = "connect"
    TLS = "tls"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the DATA command and the body, up to the final dot
    FINAL = "final"  # after the final dot: silence here leaves the outcome unknown

    __hash__ = str.__hash__  # see State


class ReplyClass(enum.StrEnum):
    """Whom a reply is about. Only RECIPIENT, MESSAGE and UNKNOWN bounce; the others defer and spend no attempt."""

    SUCCESS = "success"
    TRANSIENT = "transient"
    RECIPIENT = "recipient"
    MESSAGE = "message"
    ACCOUNT = "account"
    RATE = "rate"
    RELAY = "relay"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply: a three-digit code, an optional enhanced status code and the text, lines joined by a space."""

    code: int
    text: str = ""
    enhanced: str | None = None
    phase: Phase = Phase.FINAL

    @classmethod
    def parse(cls, code: int, text: bytes | str, phase: Phase) -> "Reply":
        """Read what smtplib hands out. An enhanced code counts if its class is the reply's (RFC 3463 section 2)."""
        words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        # A reply ends up on terminals, in logs and in the ledger: PostgreSQL refuses NUL, a terminal obeys escapes.
        lines = ["".join(c if c.isprintable() else " " for c in line).strip() for line in words.splitlines()]
        enhanced = None
        if (found := _ENHANCED.match(lines[0] if lines else "")) and found[1] == str(code)[0]:
            enhanced = ".".join(found.groups())
            lines = [line.removeprefix(enhanced).strip() for line in lines]
        return cls(code, " ".join(filter(None, lines))[:MAX_TEXT], enhanced, phase)

    @property
    def positive(self) -> bool:
        """2yz: done (RFC 5321 section 4.2.1)."""
        return self.code // 100 == 2  # noqa: PLR2004 - as it says

    @property
    def intermediate(self) -> bool:
        """3yz: go on (RFC 5321 section 4.2.1)."""
        return self.code // 100 == 3  # noqa: PLR2004 - as it says

    def __str__(self) -> str:
        if self.enhanced and self.text:  # as nearly all have
            return f"{self.code} {self.enhanced} {self.text}"
        return " ".join(filter(None, (str(self.code), self.enhanced, self.text)))


@dataclass(frozen=True, slots=True)
class NoReply:
    """Silence: the connection ended (``closed``) or timed out in this phase. In phase FINAL the outcome is unknown (in
    doubt)."""

    phase: Phase
    reason: str = ""
    closed: bool = False

    def __str__(self) -> str:
        return f"no reply at {self.phase}: {self.reason}"


Result = Reply | NoReply


class Outcome(NamedTuple):
    """What one SMTP transaction came to: a result for every recipient, by delivery id, in the message's order.

    ``seconds`` is how long the transaction took.
    """

    message: int
    results: tuple[tuple[int, Result], ...]
    relay: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    """All that is given must fit: the code, the enhanced code (ending in a dot: any below), the text, the phase."""

    kind: ReplyClass
    code: int | None = None
    enhanced: str | None = None
    text: re.Pattern[str] | None = None
    phase: Phase | None = None

    def fits(self, reply: Reply) -> bool:
        return (
            self.code in (None, reply.code)
            and self.phase in (None, reply.phase)
            and (self.enhanced is None or _under(reply.enhanced, self.enhanced))
            and (self.text is None or self.text.search(reply.text) is not None)
        )


def _text(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_STOPPED = r"\W+(?:(?:is|has been|was|temporarily)\W+)*(?:suspended|disabled|blocked|locked)"
# The first row that fits wins. What is ours (account, rate, relay) stands before what bounces, by codes and words that
# cannot mean one recipient: a dead mailbox that is "disabled" or "over quota" must never pause the relay for all.
_TABLE = (
    _Row(ReplyClass.ACCOUNT, code=530),
    _Row(ReplyClass.ACCOUNT, code=534),
    _Row(ReplyClass.ACCOUNT, code=535),
    _Row(ReplyClass.ACCOUNT, code=538),
    _Row(ReplyClass.ACCOUNT, enhanced="5.7.8"),
    _Row(ReplyClass.ACCOUNT, enhanced="5.7.9"),
    _Row(ReplyClass.MESSAGE, enhanced="5.7.133"),  # a group that takes no mail from outside
    _Row(ReplyClass.ACCOUNT, text=_text(r"authentication (is )?required|authenticat\w+ first|\bauth first")),
    _Row(ReplyClass.ACCOUNT, text=_text(r"(your|sending|sender'?s?) account" + _STOPPED)),
    _Row(ReplyClass.ACCOUNT, text=_text(r"sending (is |has been )?(paused|suspended|disabled)|bad outbound sender")),
    _Row(ReplyClass.ACCOUNT, text=_text(r"(account|user|sender|credentials?)" + _STOPPED), phase=Phase.MAIL),
    _Row(ReplyClass.RATE, enhanced="5.4.5"),
    _Row(ReplyClass.MESSAGE, enhanced="5.3.4"),
    _Row(ReplyClass.MESSAGE, enhanced="5.2.3"),
    _Row(ReplyClass.RECIPIENT, enhanced="5.2."),  # a mailbox that is full, or gets too much, is one mailbox
    _Row(
        ReplyClass.MESSAGE, text=_text(r"\b(size|attachments?)\W+(\w+\W+)?limit|too (large|big)\b|exceeds?.{1,20} size")
    ),
    _Row(ReplyClass.RATE, text=_text(r"frequency limited|credits exceeded|tenant (has )?exceeded")),
    _Row(ReplyClass.RATE, text=_text(r"too many (messages|mails|connections|recipients this)")),
    _Row(ReplyClass.RATE, text=_text(r"quota (is |was )?exceeded for send|sending (rate|limit|quota) exceeded")),
    _Row(
        ReplyClass.RATE,
        text=_text(
            r"\b(rate|frequency|sending|hourly|daily|monthly)"
            r"\W+(\w+\W+){0,2}((over)?limit|quota|cap)\b"
        ),
    ),
    # RFC 5321 section 4.5.3.1.10: too many recipients is temporary, whatever the code; the rest goes another time.
    _Row(ReplyClass.TRANSIENT, enhanced="5.5.3"),
    _Row(ReplyClass.TRANSIENT, text=_text(r"too many recipients"), phase=Phase.RCPT),
    _Row(ReplyClass.RELAY, text=_text(r"relay(ing)? (access )?(denied|not permitted|not allowed)|unable to relay")),
    _Row(ReplyClass.RELAY, enhanced="5.3.1"),
    _Row(ReplyClass.RELAY, enhanced="5.3.2"),
    _Row(ReplyClass.RELAY, enhanced="5.3.5"),
    _Row(ReplyClass.MESSAGE, enhanced="5.1.7"),  # the sender's address, as is 5.1.8
    _Row(ReplyClass.MESSAGE, enhanced="5.1.8"),
    _Row(ReplyClass.RECIPIENT, enhanced="5.1."),
    _Row(ReplyClass.MESSAGE, enhanced="5.6."),
    _Row(ReplyClass.MESSAGE, enhanced="5.7."),
    _Row(ReplyClass.RELAY, code=502),  # out of step, or not spoken here: no mail can be to blame
    _Row(ReplyClass.RELAY, code=503),
    _Row(ReplyClass.RELAY, code=521),
    _Row(ReplyClass.RECIPIENT, text=_text(r"mailbox (is )?full|over ?quota|quota exceeded")),
    _Row(
        ReplyClass.RECIPIENT,
        text=_text(
            r"(user|mailbox|recipient|address|account)\W+(\w+\W+)?"
            r"(unknown|not found|does not exist|unavailable|invalid)"
            r"|no such (user|mailbox|recipient)|unknown (user|recipient|mailbox)"
        ),
    ),
    _Row(ReplyClass.RECIPIENT, code=551),
    _Row(ReplyClass.MESSAGE, code=552),
    _Row(ReplyClass.RECIPIENT, code=553),
    _Row(ReplyClass.RECIPIENT, code=556),
)


def classify(reply: Reply) -> ReplyClass:
    """Say whom a reply is about. Pure; an unknown 5yz is UNKNOWN: it bounces, but says nothing about the address.

    A refusal of MAIL cannot be about a recipient: none was named yet (RFC 5321 section 3.3).
    """
    match reply.code // 100:
        case 2:
            return ReplyClass.SUCCESS
        case 5:
            pass
        case _:  # nothing that is not a 5yz may bounce
            return ReplyClass.RELAY if reply.code == 421 else ReplyClass.TRANSIENT  # noqa: PLR2004 - RFC 5321 code
    kind = next((row.kind for row in _TABLE if row.fits(reply)), ReplyClass.UNKNOWN)
    return ReplyClass.MESSAGE if kind is ReplyClass.RECIPIENT and reply.phase is Phase.MAIL else kind


def _under(enhanced: str | None, prefix: str) -> bool:
    if enhanced is None:
        return False
    return enhanced.startswith(prefix) if prefix.endswith(".") else enhanced == prefix
