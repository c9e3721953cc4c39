"""A whole stack of ours, as a person starts it with ``dispatcher up``, in a folder of its own."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.orders import SENDER
from dispatcher.adapters.runtime import read
from dispatcher.adapters.stack import Stack
from dispatcher.bootstrap import build
from dispatcher.sources import load

PROCESSES = 2


class Ours:
    """One that runs between ``with`` and its end; two processes send what is bulk. ``relay``: its URL, unless the
    environment names relays."""

    def __init__(self, folder: Path, relay: str | None, **environment: str) -> None:
        given = {
            "DISPATCHER_DATA_DIR": str(folder / "var"),
            **({} if relay is None else {"DISPATCHER_RELAY_URL": relay}),
            "DISPATCHER_FROM": SENDER,
            "DISPATCHER_DELIVERY__PROCESSES__BULK": str(PROCESSES),
            **environment,
        }
        self.stack = Stack(given)

    def __enter__(self) -> Self:
        self._do("db", "upgrade")
        self.stack.start()
        self.dispatcher = build(load(self.stack.environment))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dispatcher.close()
        self.stack.stop()

    def pause(self) -> None:
        """Let bulk mail wait."""
        self._do("pause", "bulk")

    def resume(self) -> None:
        """Let it go."""
        self._do("resume", "bulk")

    def submit(self, submissions: Iterable[dict[str, Any]]) -> None:
        """Hand these over, all of which must be taken."""
        for answer in self.dispatcher.submit_many(submissions):
            if isinstance(answer, Exception):
                raise answer

    def workers(self, lane: str) -> list[int]:
        """The process of the lane's workers, whose children send."""
        return [process["pid"] for process in self._running()["processes"] if process["name"] == lane]

    @property
    def broker_url(self) -> str:
        """Of the broker that it runs on."""
        return self._running()["broker_url"]

    def _running(self) -> dict[str, Any]:
        running = read(self.stack.folder)
        assert running is not None, "no stack runs there"
        return running

    def _do(self, *command: str) -> None:
        done = self.stack.run(*command)
        if done.returncode:
            raise RuntimeError(done.stderr)
