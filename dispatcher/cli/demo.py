"""``dispatcher demo``: the main job, end to end, on this machine, and the proof that it was done."""

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.output import Json, console, count, document, duration, note, table
from dispatcher.delivery import LIVE, Selector, State

if TYPE_CHECKING:
    from dispatcher.adapters.stack import Stack
    from dispatcher.cli.erp import Expected, Order
    from dispatcher.dispatcher import Dispatcher
    from dispatcher.servers.sink import Sink

_SETTLED_SECONDS = 60.0
_KEPT = ("DISPATCHER_REDIS_SERVER",)  # a fact about the machine, not about somebody's installation
_BULK = "reader"
_SUBJECTS = 3


def demo(
    orders: Annotated[int, typer.Option("--orders", min=7, max=2000, metavar="N", help="Order confirmations.")] = 21,
    bulk: Annotated[int, typer.Option("--bulk", min=1, max=20000, metavar="N", help="Recipients of a bulk run.")] = 200,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with ledger, logs and mails.")] = False,
    as_json: Json = False,
) -> None:
    """See the whole path run: an ERP's mails, from the ledger to the mailboxes.

    It starts the stack in a temporary folder with a local SMTP sink as its relay, which refuses one recipient and
    defers another once. At the end the sink's mailboxes are read back and compared. Exit 0 only if all of it is true.
    """
    folder = Path(tempfile.mkdtemp(prefix="dispatcher-demo-"))
    say = note if as_json or not sys.stdout.isatty() else _step
    try:
        wrong, result = _play(folder, orders, bulk, say)
        if as_json:
            document(result | {"wrong": wrong, "folder": str(folder) if keep else None})
        else:
            _show(result)
        for fault in wrong:
            note(f"dispatcher: not as it should be: {fault}")
        if not wrong:
            say("everything arrived as it should: every mailbox was read back and compared")
    except RuntimeError as error:  # the stack did not come up; its log's end is the reason
        note(f"dispatcher: {error}")
        wrong = ["the stack did not come up"]
    finally:
        if keep:
            note(f"dispatcher: kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(1 if wrong else 0)


def _play(folder: Path, orders: int, bulk: int, say: Callable[[str], None]) -> tuple[list[str], dict[str, Any]]:
    """Start everything, hand the mail over, wait, and compare: what is wrong, and what was found."""
    from dispatcher.adapters.stack import Stack  # noqa: PLC0415 - --help needs none of it
    from dispatcher.bootstrap import build  # noqa: PLC0415 - as above
    from dispatcher.cli import erp  # noqa: PLC0415 - as above
    from dispatcher.servers.sink import Rule, Sink  # noqa: PLC0415 - as above
    from dispatcher.sources import load  # noqa: PLC0415 - as above

    business = erp.business(orders, bulk)
    with Sink(record=folder / "mails.jsonl", rules=(Rule.refuse(erp.GONE), Rule.defer(erp.BUSY))) as sink:
        say(f"SMTP sink listens on {sink.url.partition('?')[0]}: it refuses {erp.GONE} and defers {erp.BUSY} once")
        _forget_settings()
        began = time.monotonic()
        with ExitStack() as running:
            with _busy("starting broker, workers, beat and Flower"):
                stack = running.enter_context(Stack(_environment(folder, sink)))
            say(f"stack is ready after {duration(time.monotonic() - began)}; Flower shows it at {_flower(stack)}")
            with build(load(stack.environment)) as dispatcher:
                began = time.monotonic()
                accepted = _hand_over(dispatcher, business)
                took = duration(time.monotonic() - began)
                say(f"ERP handed over {len(business)} submissions in {took}: {count(accepted, 'recipient')} accepted")
                began = time.monotonic()
                settled = _settle(dispatcher, accepted)
                say(f"{'settled' if settled else 'not settled'} after {duration(time.monotonic() - began)}; stopping")
                states = _states(dispatcher)
                wrong = [*_ledger_faults(dispatcher, accepted, states), *([] if settled else ["not settled in time"])]
    mailboxes = sink.mailboxes()
    wrong += _mailbox_faults(list(erp.arriving(business)), mailboxes)
    return wrong, {"accepted": accepted, "states": states, "mailboxes": _summary(mailboxes)}


def _forget_settings() -> None:
    """The demo is about its own folder: what is set for a real installation must not be touched by it."""
    for name in [name for name in os.environ if name.startswith("DISPATCHER_") and name not in _KEPT]:
        del os.environ[name]


def _environment(folder: Path, sink: "Sink") -> Mapping[str, str]:
    (folder / "dispatcher.toml").write_text("", encoding="utf-8")
    return {
        "DISPATCHER_CONFIG": str(folder / "dispatcher.toml"),
        "DISPATCHER_DATA_DIR": str(folder / "var"),
        "DISPATCHER_RELAY_URL": sink.url,
        "DISPATCHER_RETRY__SCHEDULE": '["2s"]',
        "DISPATCHER_PAGES__ENABLED": "false",  # no mail of the demo leads there
    }


def _flower(stack: "Stack") -> str:
    from dispatcher.adapters.runtime import read  # noqa: PLC0415 - --help needs none of it

    return str((read(stack.folder) or {}).get("flower"))


def _hand_over(dispatcher: "Dispatcher", business: "Sequence[Order]") -> int:
    from dispatcher.mail import Receipt  # noqa: PLC0415 - --help needs none of it

    accepted = 0
    for answer in dispatcher.submit_many(order.document for order in business):
        if not isinstance(answer, Receipt):
            raise answer
        accepted += answer.accepted
    return accepted


def _settle(dispatcher: "Dispatcher", accepted: int) -> bool:
    """Wait until nothing is live any more, with a bar on a terminal; False when it takes too long."""
    until = time.monotonic() + _SETTLED_SECONDS
    with _bar(accepted) as advance:
        while live := sum(number for state, number in _states(dispatcher).items() if state in LIVE):
            advance(accepted - live)
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        advance(accepted)
    return True


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    if not sys.stdout.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - for terminals

    columns = (TextColumn("  sending"), BarColumn(bar_width=40), MofNCompleteColumn(), TextColumn("recipients"))
    with Progress(*columns, console=console(), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


def _states(dispatcher: "Dispatcher") -> dict[State, int]:
    found: Counter[State] = Counter()
    for (_, state), number in dispatcher.ledger.totals().states.items():
        found[state] += number
    return dict(found)


def _ledger_faults(dispatcher: "Dispatcher", accepted: int, states: Mapping[State, int]) -> list[str]:
    """What the ledger should say and does not: one bounce for each mail to nobody, one retry for the busy one."""
    from dispatcher.cli import erp  # noqa: PLC0415 - --help needs none of it

    gone = list(dispatcher.ledger.find(Selector(to=erp.GONE)))
    busy = list(dispatcher.ledger.find(Selector(to=erp.BUSY)))
    expected = {State.SENT: accepted - len(gone), State.BOUNCED: len(gone)}
    faults = []
    if states != expected:
        faults.append(f"the ledger counts {_counts(states)}, and should count {_counts(expected)}")
    if not gone or any((record.state, record.enhanced) != (State.BOUNCED, "5.1.1") for record in gone):
        faults.append(f"{erp.GONE} did not bounce by 5.1.1")
    if sorted(record.attempts for record in busy)[-1:] != [2]:
        faults.append(f"{erp.BUSY} was not tried a second time")
    return faults


def _mailbox_faults(expected: "Sequence[Expected]", mailboxes: Mapping[str, list[EmailMessage]]) -> list[str]:
    """Each mailbox holds exactly the mails that it should, each once and right."""
    faults = []
    left = {address: list(mails) for address, mails in mailboxes.items()}
    for mail in expected:
        found = next((one for one in left.get(mail.to, ()) if mail.fits(one)), None)
        if found is None:
            faults.append(
                f"{mail.to} has no mail with {', '.join(mail.words)}" + (" and its attachment" * bool(mail.attachments))
            )
        else:
            left[mail.to].remove(found)
    faults += [f"{address} has {count(len(mails), 'mail')} too many" for address, mails in left.items() if mails]
    return faults


def _summary(mailboxes: Mapping[str, list[EmailMessage]]) -> list[dict[str, Any]]:
    """A row for each mailbox; those of the bulk run are one row together."""
    from dispatcher.cli import erp  # noqa: PLC0415 - --help needs none of it

    bulk = sorted(address for address in mailboxes if address.startswith(_BULK))
    named = sorted({*mailboxes, erp.GONE} - set(bulk))
    groups = {address: [address] for address in named} | ({f"{bulk[0]} to {bulk[-1]}": bulk} if bulk else {})
    found = {name: [mail for one in group for mail in mailboxes.get(one, ())] for name, group in groups.items()}
    return [
        {
            "mailbox": name,
            "mails": len(mails),
            "attachments": sum(len(erp.attachments(mail)) for mail in mails),
            "subjects": [str(mail["Subject"]) for mail in mails],
        }
        for name, mails in found.items()
    ]


def _show(result: Mapping[str, Any]) -> None:
    table(
        ("mailbox", "mails", "attachments", "subjects"),
        [(row["mailbox"], row["mails"], row["attachments"], _few(row["subjects"])) for row in result["mailboxes"]],
        title="What the sink's mailboxes hold",
    )
    table(
        ("state", "count"),
        [(state.value, number) for state, number in sorted(result["states"].items())],
        title="What the ledger says",
    )


def _few(subjects: Sequence[str]) -> str:
    shown = list(dict.fromkeys(subjects))
    more = f"\n… and {len(shown) - _SUBJECTS} more" if len(shown) > _SUBJECTS else ""
    return "\n".join(shown[:_SUBJECTS]) + more


def _counts(states: Mapping[State, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items()))


def _step(text: str) -> None:
    from rich.text import Text  # noqa: PLC0415 - for terminals

    console().print(Text.assemble(("✔ ", "green"), text))


@contextmanager
def _busy(text: str) -> Iterator[None]:
    """A spinner beside the text, on a terminal, while something takes its time."""
    if not sys.stdout.isatty():
        yield
        return
    with console().status(text):
        yield
