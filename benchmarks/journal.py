"""What the journal costs in CPU: the file against the memory, through the same seam, for each mail that is sent.

    python -m benchmarks.journal           # 21 rounds of 20 leases of 100 mails
    python -m benchmarks.journal --quick   # 3 rounds, only to see that it runs
    python -m benchmarks.journal --json

A mail is begun and answered, and settled with its lease. They take turns, so that all meet the same machine, and the
medians of the rounds are told. One that writes nothing shows what the seam itself costs.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dispatcher.adapters.journals import FileJournals
from dispatcher.delivery import Lane, Lease, LeasedDelivery, LeasedMessage
from dispatcher.interfaces import Journal
from dispatcher.mail import Message
from dispatcher.memory.journal import MemoryJournals
from dispatcher.reply import Outcome, Phase, Reply, Result

MAILS, LEASES, ROUNDS = 100, 20, 21
TARGET = 10.0  # microseconds a mail that the file may cost more than the memory
CONTENT = b"Subject: An order\r\n\r\n" + b"x" * 4000
SENT = Reply(250, "2.0.0 Ok: queued as 4cFXyz1234z9q", "2.0.0", Phase.FINAL)


def main() -> int:
    """Run, and print the figures. Exit 1 when the target is missed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="3 rounds, only to see that it runs")
    options.add_argument("--json", action="store_true", help="the figures as one JSON document")
    given = options.parse_args()
    rounds = 3 if given.quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            {
                "nothing": Nothing(),
                "memory": MemoryJournals(strict=True).open("bench"),
                "file": FileJournals(Path(folder)).open("bench"),
            },
            rounds,
        )
    price = found["file"] - found["memory"]
    if given.json:
        facts = {f"{name}_us": round(us, 2) for name, us in found.items()}
        print(json.dumps(facts | {"price_us": round(price, 2), "target_us": TARGET, "rounds": rounds}))
    else:
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
        print(f"{rounds} rounds of {MAILS * LEASES:,} mails; begin, reply and settled, microseconds of CPU a mail:")
        print(", ".join(f"{name} {us:.1f}" for name, us in found.items()), end="; ")
        print(f"the file costs {price:+.1f} over the memory (at most {TARGET:g})")
    return 0 if given.quick or price <= TARGET else 1


class Nothing:
    """Takes it all, and keeps none of it."""

    def leasing(self, seconds: float) -> None: ...
    def leased(self, lease: Lease) -> None: ...
    def begin(self, message: Message, refused: Sequence[tuple[int, Result]]) -> None: ...
    def reply(self, outcome: Outcome) -> None: ...
    def settled(self, token: str, messages: Iterable[int]) -> None: ...


def measure(journals: Mapping[str, Nothing | Journal], rounds: int) -> dict[str, float]:
    """Microseconds a mail in each of them: the medians of rounds that take turns."""
    taken: dict[str, list[float]] = {name: [] for name in journals}
    for turn in range(rounds + 1):
        for name, journal in journals.items():
            seconds = sum(carry(journal, lease) for lease in range(LEASES))
            if turn:  # the first is to warm up
                taken[name].append(seconds / (MAILS * LEASES) * 1e6)
    return {name: statistics.median(each) for name, each in taken.items()}


def carry(journal: Nothing | Journal, number: int) -> float:
    """One lease of mails, from the leasing to the settling; its seconds."""
    first = number * MAILS
    numbers = range(first, first + MAILS)
    mails = [mail(n) for n in numbers]
    outcomes = [Outcome(m.id, ((m.id, SENT),), "main", 0.01) for m in mails]
    lease = Lease(f"{number:032}", 0.0, tuple(map(leased, numbers)))
    began = time.thread_time()
    journal.leasing(300.0)
    journal.leased(lease)
    for message, outcome in zip(mails, outcomes, strict=True):
        journal.begin(message, ())
        journal.reply(outcome)
    journal.settled(lease.token, [message.id for message in mails])
    return time.thread_time() - began


def mail(number: int) -> Message:
    """Its checksum is known already: the ledger wants it too."""
    made = Message(number, "a@example.com", ((number, "b@example.com"),), CONTENT)
    assert made.sha256
    return made


def leased(number: int) -> LeasedMessage:
    """As the ledger would hand it over, as far as a journal looks at it."""
    mine = (LeasedDelivery(number, "b@example.com", 0, 0.0),)
    return LeasedMessage(
        number, f"{number:016}", "", Lane.BULK, 0.0, {}, {}, mine, None, None, "resend", sha256=None, build=None
    )


if __name__ == "__main__":
    sys.exit(main())
