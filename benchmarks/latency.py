"""How long single mails take, from ``submit`` returning to the relay's 250: on an idle machine, or beside bulk mail."""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.orders import data, recipient
from benchmarks.ours import Ours
from dispatcher import Submission
from dispatcher.servers.sink import Sink

_WARM_UP = 5  # each worker process connects and compiles once
_EVERY_SECONDS = 0.1
_PATIENCE = 60.0


def measure(ours: Ours, sink: Sink, count: int, relay: str | None = None) -> dict[str, float]:
    """Milliseconds; the sink, which tells when it took what, is one that nobody else sends to."""
    returned = {}
    for n in range(_WARM_UP + count):
        mail = Submission(template="order_confirmation", to=[recipient(n)], data=data(n), relay=relay)
        ours.dispatcher.submit(mail)
        returned[recipient(n)] = time.time()
        time.sleep(_EVERY_SECONDS)
    taken = _taken(sink, len(returned))
    delays = sorted((taken[to] - at) * 1000 for to, at in list(returned.items())[_WARM_UP:])
    return {"median": statistics.median(delays), "p99": delays[int(len(delays) * 0.99) - 1], "max": delays[-1]}


def _taken(sink: Sink, count: int) -> dict[str, float]:
    until = time.monotonic() + _PATIENCE
    while len(received := sink.received()) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(received)} of {count} mails after {_PATIENCE:g} s")
        time.sleep(0.2)
    return {to: each.time for each in received for to in each.rcpt_to}


def idle(*, quick: bool = False) -> dict[str, float]:
    """Nothing else is to be done."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Sink(record=Path(folder) / "sink.jsonl") as sink,
        Ours(Path(folder), sink.url) as ours,
    ):
        return measure(ours, sink, 20 if quick else 300)
