"""What the tutorials show: a Celery task for each mail, with a connection of its own. The payload is in Redis.

celery -A benchmarks.peers.tutorial worker -c 2
python -m benchmarks.peers.tutorial COUNT     hands so many over, and prints the seconds that took
"""

import os
import smtplib
import sys
import time

from celery import Celery

from benchmarks.orders import message, template

app = Celery("tutorial", broker=os.environ.get("BENCH_BROKER", "redis://127.0.0.1:6379/0"))
app.conf.task_ignore_result = True
app.conf.task_acks_late = True
_COMPILED = template()


@app.task  # type: ignore[untyped-decorator]  # celery's own
def confirm(n: int) -> None:
    """Send one order confirmation."""
    with smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_PORT"])) as smtp:
        smtp.send_message(message(_COMPILED, n))


if __name__ == "__main__":
    from benchmarks.peers.tutorial import confirm as task  # by the name under which a worker knows it

    began = time.monotonic()
    for n in range(int(sys.argv[1])):
        task.delay(n)
    print(time.monotonic() - began)
