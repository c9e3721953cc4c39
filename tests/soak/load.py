"""A steady load: `dispatcher submit` again and again, so that there is always something under way."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

from dispatcher.adapters.stack import Stack

GROUP = 500
_OUT_OF_REACH = 3  # the ledger was: the same file is submitted again
_LOOK_SECONDS = 0.2


class Load(threading.Thread):
    """Submits until it is stopped, while less than ``waiting`` mails are not taken by the relay. ``accepted`` counts
    mails, ``again`` how often a file had to be submitted again, ``trouble`` says what ended it too early."""

    def __init__(self, stack: Stack, folder: Path, taken: Callable[[], int], waiting: int) -> None:
        super().__init__(name="load", daemon=True)
        self.accepted, self.again, self.trouble = 0, 0, ""
        self._stack, self._lines, self._taken, self._waiting = stack, folder / "load.jsonl", taken, waiting
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS) and not self.trouble:
            if self.accepted - self._taken() < self._waiting:
                numbers = range(self.accepted, self.accepted + GROUP)
                self._lines.write_text("".join(f"{json.dumps(_mail(n))}\n" for n in numbers), "utf-8")
                self._submit()

    def stop(self) -> None:
        """Let the last file be accepted, and end."""
        self._over.set()
        self.join()

    def _submit(self) -> None:
        while (done := self._stack.run("submit", str(self._lines))).returncode == _OUT_OF_REACH:
            self.again += 1
        if done.returncode:
            self.trouble = f"submit: exit {done.returncode}: {done.stderr[-1000:]}"
        else:
            self.accepted += GROUP


def _mail(n: int) -> dict[str, object]:
    return {
        "from": "Soak <soak@example.com>",
        "to": [f"buyer{n}@example.com"],
        "subject": f"Number {n}",
        "text": f"This is mail {n} of a soak.\n",
        "idempotency_key": f"soak/{n}",
    }
