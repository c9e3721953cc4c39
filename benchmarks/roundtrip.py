"""Over a line that takes its time: mails a second on each connection, ours beside plain smtplib, both with bytes that
were built before."""

import smtplib
import time

from benchmarks.delay import DelayProxy
from benchmarks.orders import message, recipient, template
from benchmarks.sink import PostfixSink
from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.mail import Message
from dispatcher.memory import MemoryJournal
from dispatcher.relay import Relay

TRIPS = (0.0, 0.010, 0.040)
CONNECTIONS = 16


def measure(*, quick: bool = False) -> list[dict[str, float]]:
    """A row for each time of a round trip, in seconds: mails a second."""
    rows = []
    for trip in TRIPS:
        count = 10 if quick else 4000 if not trip else 150
        with PostfixSink() as sink, DelayProxy(sink.port, trip) as proxy:
            port = proxy.port if trip else sink.port
            mails = _mails(count)
            row = {"trip": trip, "smtplib": _plain(port, mails), "ours": _ours(port, mails, 1)}
            row["ours, several"] = _ours(port, _mails(count * CONNECTIONS // 2), CONNECTIONS) if trip else row["ours"]
        rows.append(row)
    return rows


def _mails(count: int) -> list[Message]:
    compiled = template()
    content = message(compiled, 1).as_bytes().replace(b"\n", b"\r\n")
    return [Message(n, "shop@example.com", ((n, recipient(n)),), content, utf8=False) for n in range(count)]


def _plain(port: int, mails: list[Message]) -> float:
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.ehlo()
        began = time.monotonic()
        for mail in mails:
            smtp.sendmail(mail.mail_from, [address for _, address in mail.rcpt_to], mail.content)
        return len(mails) / (time.monotonic() - began)


def _ours(port: int, mails: list[Message], connections: int) -> float:
    relay = Relay.parse("main", f"smtp://127.0.0.1:{port}?tls=none", setting="url")
    transport = SmtpTransport(relay, size=connections)
    journal = MemoryJournal()
    list(transport.send(mails[:connections], journal))  # greeted, as the other one is
    began = time.monotonic()
    outcomes = list(transport.send(mails, journal))
    spent = time.monotonic() - began
    transport.close()
    assert {str(result)[:3] for outcome in outcomes for _, result in outcome.results} == {"250"}
    return len(mails) / spent
