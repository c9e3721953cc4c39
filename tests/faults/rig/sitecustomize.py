"""Python runs this first in every process of a rigged stack: whoever reaches a step that a test has armed is struck.

The folder is the environment's RIG; a step is armed by a file in it (see ``arming``). Without such a file nothing
happens. RIG_AHEAD (``QUEUE=SECONDS,...``) sets the clock of a queue's worker; RIG_CLOCK is a file by which the clocks
of all processes and of the ledger go. RIG_ROWS makes mails of so many rows of an audience at a time, RIG_ROWS_SECONDS
apart. The patches go over a module as soon as it is imported (in a program that was forked, they are already), so that
the product knows nothing of them.
"""

import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import shifted

_RIG = Path(os.environ["RIG"]) if os.environ.get("RIG") else None
_leased: dict[int, tuple[str, str]] = {}  # by number: its public id, and what is to be done if it is in doubt
_at: list[int] = []  # the message that the session sends now


def reached(step: str, messages: Sequence[int]) -> None:
    """Die or freeze here, if the step is armed for one of these, and none of them was struck before."""
    if (how := _claim(step, messages)) is not None:
        os.kill(os.getpid(), how)


def passed(step: str) -> None:
    """The same for a step that is of no message."""
    if (order := _order(step)) is not None and _take(step, ()):
        os.kill(os.getpid(), order["how"])


def _order(step: str) -> Any:
    assert _RIG is not None
    try:
        return json.loads((_RIG / f"armed-{step}").read_text())
    except FileNotFoundError:
        return None


def _claim(step: str, messages: Sequence[int]) -> int | None:
    assert _RIG is not None
    if (order := _order(step)) is None:
        return None
    known = [_leased[each] for each in messages if each in _leased]
    names = [name for name, _ in known]
    if not known or any(order["if_in_doubt"] not in ("", policy) for _, policy in known):
        return None
    if order["sparing"] and {
        name for path in _RIG.glob("struck-*") for name in json.loads(path.read_text())["mails"]
    } & {*names}:
        return None
    return int(order["how"]) if _take(step, names) else None


def _take(step: str, names: Sequence[str]) -> bool:
    assert _RIG is not None
    taken = _RIG / f"taken-{step}-{os.getpid()}"
    try:
        (_RIG / f"armed-{step}").rename(taken)
    except FileNotFoundError:  # another process was quicker
        return False
    taken.write_text(json.dumps({"pid": os.getpid(), "mails": [*names]}))
    taken.rename(_RIG / f"struck-{step}")
    return True


def _struck() -> set[str]:
    assert _RIG is not None
    return {name for path in _RIG.glob("struck-*") for name in json.loads(path.read_text())["mails"]}


def _in_sql(module: ModuleType) -> None:
    lease, settle = module.SqlLedger.lease, module.SqlLedger.settle

    def leasing(self: Any, *given: Any, **named: Any) -> Any:
        found = lease(self, *given, **named)
        _leased.update({each.id: (each.public_id, each.if_in_doubt) for each in found.messages})
        if found.messages:
            reached("after_lease", [each.id for each in found.messages])
        return found

    def settling(self: Any, token: str, settlements: Any) -> Any:
        if any(each.crashed for each in settlements):  # it replays for another, while it may be sending itself
            return settle(self, token, settlements)
        sent = [each.message for each in settlements if each.state == "sent"]
        reached("before_commit", sent)
        done = settle(self, token, settlements)
        reached("after_commit", sent)
        return done

    module.SqlLedger.lease, module.SqlLedger.settle = leasing, settling


class _Halves:
    """A socket that sends in two pieces."""

    def __init__(self, sock: Any, at: list[int]) -> None:
        self._sock, self._at = sock, at

    def send(self, data: Any) -> int:
        self._sock.settimeout(10)  # the session waits elsewhere
        half = len(data) // 2
        self._sock.sendall(data[:half])
        reached("mid_data", self._at)
        self._sock.sendall(data[half:])
        self._sock.setblocking(False)
        return len(data)


def _in_wire(module: ModuleType) -> None:
    send_body, hear = module.Wire.send_body, module.Wire.hear

    def sending(self: Any, content: bytes, *envelope: Any) -> Any:
        reached("after_begin", self.rig_at)
        whole = self._sock
        self._sock = _Halves(whole, self.rig_at)
        try:
            yield from send_body(self, content, *envelope)
        finally:
            self._sock = whole
        reached("after_dot", self.rig_at)

    def hearing(self: Any, phase: Any, *given: Any) -> Any:
        reply = yield from hear(self, phase, *given)
        if phase == "final":
            reached("heard", self.rig_at)
        return reply

    module.Wire.send_body, module.Wire.hear = sending, hearing


def _in_session(module: ModuleType) -> None:
    send = module.SmtpSession.send

    def sending(self: Any, message: Any, *others: Any) -> Any:
        self._wire.rig_at = [message.id]
        outcome = yield from send(self, message, *others)
        reached("after_250", [message.id])
        return outcome

    module.SmtpSession.send = sending


def _in_batch(module: ModuleType) -> None:
    compose = module.compose

    def composing(leased: Any, sources: Any) -> Any:
        if leased.deliveries[0].rcpt.startswith("poison"):
            assert _RIG is not None
            with (_RIG / "poisoned").open("a") as log:
                log.write(f"{leased.public_id}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return compose(leased, sources)

    module.compose = composing


def _in_audiences(module: ModuleType) -> None:
    add = module.SqlAudiences.add

    def adding(self: Any, *given: Any) -> None:
        add(self, *given)
        passed("mid_import")

    module.SqlAudiences.add = adding


def _in_campaigns(module: ModuleType) -> None:
    begin, start, add, expand = (
        module.SqlCampaigns.check,
        module.SqlCampaigns.start,
        module.add_rows,
        module.SqlCampaigns.expand,
    )

    def checking(self: Any, *given: Any) -> Any:
        passed("before_check")
        return begin(self, *given)

    def starting(self: Any, *given: Any) -> Any:
        passed("before_start")
        found = start(self, *given)
        passed("after_start")
        return found

    def adding(*given: Any) -> None:
        add(*given)
        passed("mid_expand")  # the rows are there and the cursor was moved, but nothing is committed

    def expanding(self: Any, *given: Any, **named: Any) -> Any:
        time.sleep(float(os.environ.get("RIG_ROWS_SECONDS", "0")))
        done = expand(self, *given, **named)
        passed("after_expand")
        return done

    module.SqlCampaigns.check, module.SqlCampaigns.start = checking, starting
    module.add_rows, module.SqlCampaigns.expand = adding, expanding  # type: ignore[attr-defined]


def _in_advance(module: ModuleType) -> None:
    module.CHUNK = int(os.environ.get("RIG_ROWS", module.CHUNK))  # type: ignore[attr-defined]


def _in_database(module: ModuleType) -> None:
    if "RIG_CLOCK" not in os.environ:
        return
    now = module.Transaction.now.func
    shown = cached_property(lambda self: now(self) + shifted.everybody())
    shown.__set_name__(module.Transaction, "now")
    module.Transaction.now = shown


def _in_app(module: ModuleType) -> None:
    assert _RIG is not None
    if (_RIG / "one-task").exists():
        module.app.conf.worker_max_tasks_per_child = 1
    if seconds := os.environ.get("RIG_SOFT"):  # that SIGQUIT leaves the children, all of which Celery waits for
        module.app.conf.worker_soft_shutdown_timeout = float(seconds)


_PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "dispatcher.adapters.sql.audiences": _in_audiences,
    "dispatcher.adapters.sql.campaigns": _in_campaigns,
    "dispatcher.adapters.sql.database": _in_database,
    "dispatcher.adapters.sql.ledger": _in_sql,
    "dispatcher.adapters.smtp_wire": _in_wire,
    "dispatcher.adapters.smtp_session": _in_session,
    "dispatcher.advance": _in_advance,
    "dispatcher.batch": _in_batch,
    "tasks.app": _in_app,
}


class _Patching(importlib.abc.MetaPathFinder):
    """Finds what is to be patched as usual, and patches it once it was executed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        patch = _PATCHES.get(name)
        found = importlib.machinery.PathFinder.find_spec(name, path) if patch else None
        if patch is None or found is None or found.loader is None:
            return None
        execute: Callable[[ModuleType], None] = found.loader.exec_module

        def executing(module: ModuleType) -> None:
            execute(module)
            patch(module)

        found.loader.exec_module = executing  # type: ignore[method-assign]  # of this module's own loader
        return found


if _RIG is not None:
    sys.meta_path.insert(0, _Patching())
    for known, over in _PATCHES.items():
        if known in sys.modules:
            over(sys.modules[known])
    for rule in filter(None, os.environ.get("RIG_AHEAD", "").split(",")):
        queue, _, seconds = rule.partition("=")
        if queue in sys.orig_argv:
            shifted.set_ahead(float(seconds))
    if clock := os.environ.get("RIG_CLOCK"):
        shifted.follow(Path(clock))
