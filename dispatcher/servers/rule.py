"""What a sink does wrong: rules, each for a step of the session, and which of them strikes when."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal
from weakref import WeakKeyDictionary

from dispatcher.reply import Phase

WITHOUT_ADDRESS = frozenset({Phase.CONNECT, Phase.EHLO, Phase.TLS, Phase.AUTH})
PER = ("address", "session", "sink")


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do instead of a welcome: to which address, at which step, how often. Raises ValueError, "field: reason".

    When it strikes: ``address`` is a pattern such as ``gone@*``, compared with the sender at MAIL, the recipient at
    RCPT, and each recipient at DATA and FINAL. ``after``: not for the first so many; ``times``: then only so often
    (None: always); both counted ``per`` address, session or sink. Where there is no address yet, "address" counts like
    "sink". ``above``: only while more connections than that are open. ``chance`` (0 to 1): of being asked at all.
    ``body_bytes``, at DATA: once so much of the body is in, instead of at the command.

    What it does, in this order. ``accept``, at FINAL: the mail is recorded. ``hold``: waits so many seconds, or a time
    between two by chance. ``reply`` is said instead of the usual words, as it stands. ``drop``: the connection ends;
    after a 421 it does anyway. Without reply and drop things go on as usual. ``drip``: the seconds that each byte of
    what is said takes.
    """

    address: str = "*"
    reply: str | None = None
    phase: Phase = Phase.RCPT
    times: int | None = None
    after: int = 0
    per: Literal["address", "session", "sink"] = "address"
    above: int = 0
    chance: float = 1.0
    body_bytes: int | None = None
    accept: bool = False
    hold: float | tuple[float, float] = 0.0
    drop: bool = False
    drip: float = 0.0

    def __post_init__(self) -> None:
        for wrong, reason in self._checks():
            if wrong:
                raise ValueError(reason)

    @classmethod
    def refuse(cls, address: str) -> "Rule":
        return cls(address, "550 5.1.1 No such user here")

    @classmethod
    def defer(cls, address: str, times: int = 1) -> "Rule":
        return cls(address, "451 4.7.1 Greylisted, try again later", times=times)

    @property
    def words(self) -> str | None:
        """The reply as it goes over the wire, without the last line end."""
        return None if self.reply is None else self.reply.replace("\r\n", "\n").replace("\n", "\r\n")

    @property
    def ends(self) -> bool:
        """Whether the connection ends with it (RFC 5321 section 3.8: 421 closes the channel)."""
        return self.drop or (self.reply or "").startswith("421")

    @property
    def span(self) -> tuple[float, float]:
        """The shortest and the longest hold, in seconds."""
        return self.hold if isinstance(self.hold, tuple) else (self.hold, self.hold)

    def _checks(self) -> Iterator[tuple[bool, str]]:
        low, high = self.span
        idle = self.reply is None and not (self.drop or high or self.drip)
        yield idle, "it does nothing: give it a reply, a drop, a hold or a drip"
        nowhere = self.address != "*" and self.phase in WITHOUT_ADDRESS
        yield nowhere, f"address: at {self.phase} there is none yet; leave it out"
        yield self.times is not None and self.times < 1, "times: must be at least 1"
        yield self.after < 0, "after: must not be negative"
        yield self.above < 0, "above: must not be negative"
        yield not 0 < self.chance <= 1, "chance: must be above 0 and at most 1"
        yield self.per not in PER, f"per: must be one of {', '.join(PER)}"
        yield not 0 <= low <= high, "hold: must be a time, or two of which the first is no longer than the second"
        yield self.drip < 0, "drip: must not be negative"
        yield self.accept and self.phase is not Phase.FINAL, "accept: a mail is there to be accepted only at final"
        if self.body_bytes is not None:
            yield self.phase is not Phase.DATA, "body_bytes: the body comes at data"
            yield self.body_bytes < 0, "body_bytes: must not be negative"
            # Whoever is sending a body reads nothing until its end.
            fits = self.ends or (high and self.reply is None)
            yield not fits, "body_bytes: within a body a rule can drop or hold; a reply needs drop"


class Play:
    """Rules under way in one sink. For one thread. ``seed``: of holds and chances.

    ``struck``: how often each rule did; ``within``: at how many bytes of a body there are any.
    """

    def __init__(self, rules: Sequence[Rule], seed: int = 0) -> None:
        self.struck = [0] * len(rules)
        self._random = random.Random(seed)  # noqa: S311 - to be had again, not to be unguessable
        self._turns: Counter[tuple[int, str]] = Counter()
        self._sessions: WeakKeyDictionary[object, Counter[int]] = WeakKeyDictionary()
        self._rules: dict[tuple[Phase, int | None], list[tuple[int, Rule]]] = {}
        for number, rule in enumerate(rules):
            self._rules.setdefault((rule.phase, rule.body_bytes), []).append((number, rule))
        self.within = sorted({rule.body_bytes for rule in rules if rule.body_bytes is not None})

    def rule(
        self, phase: Phase, addresses: Sequence[str], session: object, connections: int, body: int | None = None
    ) -> Rule | None:
        """The first rule that holds now in this session, at ``body`` bytes if within one; ``connections`` are open."""
        for number, rule in self._rules.get((phase, body), ()):
            if connections > rule.above and self._holds(number, rule, addresses or ("",), session):
                self.struck[number] += 1
                return rule
        return None

    def seconds(self, rule: Rule) -> float:
        """How long the rule holds this time."""
        low, high = rule.span
        return low if low == high else self._random.uniform(low, high)

    def _holds(self, number: int, rule: Rule, addresses: Sequence[str], session: object) -> bool:
        for address in addresses:
            if not fnmatchcase(address.lower(), rule.address.lower()):
                continue
            if rule.chance < 1 and self._random.random() >= rule.chance:
                continue
            turn = self._turn(number, rule, address, session) - rule.after
            if turn > 0 and (rule.times is None or turn <= rule.times):
                return True
            if rule.per != "address":
                return False  # one mail is one turn, however many recipients it has
        return False

    def _turn(self, number: int, rule: Rule, address: str, session: object) -> int:
        if rule.per == "session":
            turns = self._sessions.setdefault(session, Counter())
            turns[number] += 1
            return turns[number]
        key = number, address if rule.per == "address" else ""
        self._turns[key] += 1
        return self._turns[key]
