"""What limits cost: calls to Redis, CPU of this process and of Redis, for each message that may go at once.

    python -m benchmarks.limits            # 20,000 messages a row
    python -m benchmarks.limits --quick    # 500, only to see that it runs

Nothing is sent: a message is admitted and taken to have gone in a millisecond. The rates are so high that nobody waits.
"""

import argparse
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from dispatcher.adapters.redis import connect
from dispatcher.adapters.redis_limiter import RedisLimiter
from dispatcher.adapters.valkey import Valkey, find_server
from dispatcher.broker import BrokerAddress
from dispatcher.dispatcher import SystemClock
from dispatcher.rate import Rate
from dispatcher.relay import Relay
from dispatcher.throttle import Throttle

RATES: tuple[tuple[str, ...], ...] = (
    (),
    ("10000000/min",),
    ("100000/s",),
    ("100000/s", "5000000/min", "300000000/h", "5000000000/day"),
)


def main() -> None:
    """Run, and print a line per rate."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="500 messages, only to see that it runs")
    count = 500 if options.parse_args().quick else 20_000
    with tempfile.TemporaryDirectory() as folder:
        server = Valkey(Path(folder), find_server(None))
        server.prepare()
        process = subprocess.Popen(server.command, stdout=subprocess.DEVNULL)
        try:
            while not server.ready():
                time.sleep(0.05)
            print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {count} messages")
            for rate in RATES:
                print(line(server.url, rate, count))
        finally:
            process.terminate()
            process.wait(10)


def line(url: str, rate: tuple[str, ...], count: int) -> str:
    """The figures of one rate."""
    address = BrokerAddress(url)
    limiter, client = RedisLimiter(address, SystemClock()), connect(address)
    relay = Relay.parse("main", "smtp://127.0.0.1", setting="url", rate=Rate.parse(rate, "rate"))
    limiter.limits({"main": relay})
    throttle = Throttle(limiter, SystemClock())
    client.flushall()
    client.config_resetstat()
    before, began = client.info("cpu"), time.process_time()
    sent = 0
    while sent < count:
        if not throttle.admit("main", 1, lambda: False):
            throttle.told("main", 0.001)
            sent += 1
    ours, after = time.process_time() - began, client.info("cpu")
    calls = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    theirs = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    limiter.close()
    client.close()
    return (
        f"{' '.join(rate) or 'no rate':50} {calls / count:7.4f} calls  "
        f"{ours / count * 1e6:6.1f} us here  {theirs / count * 1e6:6.1f} us in Redis  a message"
    )


if __name__ == "__main__":
    main()
