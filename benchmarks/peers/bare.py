"""The loop without any queue: render, EmailMessage, one kept smtplib connection. Nothing is durable.

    python -m benchmarks.peers.bare PORT FIRST COUNT

Says ``ready`` when all is compiled and connected, and begins with the line that comes then.
"""

import smtplib
import sys

from benchmarks.orders import message, template


def main(port: int, first: int, count: int) -> None:
    """Send orders number ``first`` and those after it."""
    compiled = template()
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.ehlo()
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(first, first + count):
            smtp.send_message(message(compiled, n))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
