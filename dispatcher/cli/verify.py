"""``dispatcher verify``: the proof that nothing was lost and nothing sent twice, or the mails that contradict it."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli.exits import OK, SOME_FAILED
from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import Json, count, document, line, note, table
from dispatcher.errors import ConfigurationError

if TYPE_CHECKING:
    from dispatcher.accountant import Accountant, Proof
    from dispatcher.interfaces import Ledger
    from dispatcher.settings import Settings

_SHOWN = 20
_SWEEPS = 5  # after so many, somebody must have ended a lease that is over
_CLOCKS_SECONDS = 3600.0  # the sink's clock may be wrong, and the ledger goes on retiring meanwhile


def verify(
    sink: Annotated[
        list[Path] | None,
        typer.Option("--sink", metavar="FILE", help="What `dispatcher sink --record FILE` wrote; as often as needed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove that nothing was lost and nothing sent twice, or list what contradicts it (exit 1).

    Accepted counts against rows, leases against their terms; with --sink every mail that is said to be sent against
    what the sink has: there once, or once more for each time that it was in doubt, and nothing else. Changes nothing,
    and works while mail is being sent. --json: ok, accepted, rows, states, live, sink (mails; null: no record),
    sink_recipients, doubled (copies beyond the first), sent, by_hand (by the word of a person), in_doubt_events, held,
    host_lost, retired (in the sink, and older than the ledger keeps), foreign (in the sink, and not ours), and the ids
    of unbalanced, missing, unexplained, strange and overdue, up to 100 each, beside unbalanced_count and so on.
    """
    record = None if not sink else Record(sink)
    settings = settings_of_user()
    with opened_ledger(settings, there=True) as ledger:
        proof = _accountant(settings, ledger).prove(record)
    for file in record.cut if record else ():
        note(f"dispatcher: {file}: its last line has no end and does not count: it is being written, or was cut off")
    if as_json:
        document(proof.document())
    else:
        _show(proof)
    raise typer.Exit(OK if proof.ok else SOME_FAILED)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A recorded mail without its content; see ``accountant.Taken``."""

    time: float
    message_id: str
    rcpt_to: tuple[str, ...]


class Record:
    """The lines that sinks have written to these files, each time that it is read. Raises ConfigurationError."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self.cut: set[Path] = set()  # those that ended in the middle of a line
        known: dict[Path, Path] = {}
        for file in files:
            if (before := known.setdefault(file.resolve(), file)) is not file:
                raise ConfigurationError("--sink", f"{file} is {before}: each record counts once")

    def __iter__(self) -> Iterator[Envelope]:
        for file in self._files:
            try:
                yield from self._envelopes(file)
            except OSError as error:
                raise ConfigurationError("--sink", f"cannot read {file}: {error.strerror}") from None

    def _envelopes(self, file: Path) -> Iterator[Envelope]:
        with file.open("rb") as lines:
            for number, text in enumerate(lines, 1):
                if not text.endswith(b"\n"):
                    self.cut.add(file)  # it is being written, or its writer was killed before it said 250
                    return
                try:
                    found = json.loads(text)
                    time, message_id, rcpt_to = float(found["time"]), found["message_id"], found["rcpt_to"]
                except (ValueError, KeyError, TypeError):
                    time, message_id, rcpt_to = 0.0, None, None
                if not isinstance(message_id, str) or not isinstance(rcpt_to, list):
                    raise ConfigurationError("--sink", f"{file}:{number}: is no line of a sink's record")
                yield Envelope(time, message_id, tuple(rcpt_to))


def _accountant(settings: "Settings", ledger: "Ledger") -> "Accountant":
    from dispatcher import bootstrap  # noqa: PLC0415 - --help needs none of it
    from dispatcher.accountant import Accountant  # noqa: PLC0415 - as above

    return Accountant(
        ledger,
        host_grace=settings.delivery.host_grace + _SWEEPS * settings.delivery.sweep_seconds,
        kept_since=time.time() - bootstrap.policy(settings).retention.shortest + _CLOCKS_SECONDS,
    )


def _show(proof: "Proof") -> None:
    table(("claim", "count", "holds"), _claims(proof), head=True)
    for text in _remarks(proof):
        line(text)
    against = [each for found in proof.contradictions.values() for each in found.listed]
    total = sum(found.count for found in proof.contradictions.values())
    if against:
        table(("id", "to", "why"), [(_id(each.id), each.to, each.why) for each in against[:_SHOWN]])
        if total > _SHOWN:
            line(f"these are {_SHOWN} of {total:,}; --json has more")
    line("the proof holds" if proof.ok else f"the proof does not hold: {count(total, 'contradiction')}")


def _id(name: str) -> str:
    """Of a Message-ID the dispatcher's own part: the rest makes a table too wide."""
    return name.partition("@")[0].removeprefix("<")


def _claims(proof: "Proof") -> list[tuple[str, str, str]]:
    """What is claimed, of how many, and whether it holds."""
    balanced = proof.accepted == proof.rows and not proof.unbalanced.count
    found = [
        ("all that was accepted has its row", proof.accepted, balanced),
        ("no lease outlives its term", proof.leased, not proof.overdue.count),
    ]
    if proof.sink is not None:
        found += [
            ("what is sent is in the sink", proof.sent, not proof.missing.count),
            ("what is there twice was in doubt", proof.doubled, not proof.unexplained.count),
            ("what is there was sent, or in doubt", proof.sink_recipients, not proof.strange.count),
        ]
    return [(claim, f"{number:,}", "yes" if holds else "no") for claim, number, holds in found]


def _remarks(proof: "Proof") -> Iterator[str]:
    states = " · ".join(f"{state} {number:,}" for state, number in proof.states.items())
    yield f"rows: {proof.rows:,}{f' ({states})' if states else ''}"
    if proof.live > proof.held:
        yield f"{count(proof.live - proof.held, 'delivery')} not settled yet: this is a proof of what there is so far"
    yield f"in doubt: {count(proof.in_doubt_events, 'time')} · held: {proof.held:,} · host lost: {proof.host_lost:,}"
    if proof.by_hand:
        yield f"sent by the word of a person: {proof.by_hand:,}"
    if proof.sink is None:
        yield "no sink's record was given, so nobody was asked what came: --sink FILE"
        return
    yield f"sink: {count(proof.sink, 'mail')} to {count(proof.sink_recipients, 'recipient')} · twice: {proof.doubled:,}"
    if proof.retired:
        yield f"in the sink, and older than the ledger keeps: {proof.retired:,}"
    if proof.foreign:
        yield f"in the sink, and not of this dispatcher's making: {count(proof.foreign, 'mail')}"
