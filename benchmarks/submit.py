"""How fast order confirmations are accepted: checked, deduplicated, and on disk when it counts them."""

import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.orders import submissions
from benchmarks.ours import Ours

_NOWHERE = "smtp://127.0.0.1:9?tls=none"


def measure(rounds: int, *, quick: bool = False) -> dict[str, float]:
    """Mails a second, medians: ``submit_many`` in a running program; ``dispatcher submit`` from start to end."""
    count = 300 if quick else 20_000
    many: list[float] = []
    command: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, Ours(Path(folder), _NOWHERE) as ours:
            ours.pause()
            began = time.monotonic()
            ours.submit(submissions(count))
            many.append(count / (time.monotonic() - began))
            # As on any machine where the command was run before: its modules are compiled.
            ours.stack.environment.pop("PYTHONDONTWRITEBYTECODE", None)
            assert ours.stack.run("submit", "/dev/null").returncode == 0
            file = Path(folder) / "orders.jsonl"
            file.write_text("".join(f"{json.dumps(each)}\n" for each in submissions(count)))
            began = time.monotonic()
            done = ours.stack.run("submit", str(file))
            assert done.returncode == 0, done.stderr
            command.append(count / (time.monotonic() - began))
    return {"submit_many": statistics.median(many), "dispatcher submit": statistics.median(command)}
