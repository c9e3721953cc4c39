"""Servers that share no folder: a third one publishes the templates, a fourth takes the mail in, two send it."""

import re
from pathlib import Path

import pytest

from dispatcher.adapters.stack import Stack
from tests import orders
from tests.commands import QuickStack
from tests.orders import text_of
from tests.processes import sink_process
from tests.waiting import wait_for

COUNT = 120
pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(240)]

_META = """description = "An invoice"
[schema]
type = "object"
required = ["number"]
[sample]
number = "R-1"
"""


def write_template(folder: Path, words: str) -> None:
    template = folder / "invoice"
    template.mkdir(parents=True, exist_ok=True)
    (template / "meta.toml").write_text(_META)
    (template / "subject.txt").write_text("Invoice {{ number }}")
    (template / "body.txt").write_text(f"{words} {{{{ number }}}}.\n")


def invoice(n: int, folder: Path) -> str:
    """One line of JSON with a PDF of its own, and one that all of them share."""
    path = folder / f"R-{n}.pdf"
    path.write_bytes(b"%PDF-1.4 invoice " + str(n).encode() * 5000)
    return (
        f'{{"template": "invoice", "to": ["buyer{n}@example.com"], "data": {{"number": "R-{n}"}}, '
        f'"lane": "{"bulk" if n % 2 else "transactional"}", "idempotency_key": "R-{n}", '
        f'"attachments": [{{"path": "{path}"}}, {{"path": "{folder / "terms.pdf"}"}}]}}'
    )


def test_two_servers_send_what_others_published_and_accepted(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    record, papers = tmp_path / "sink.jsonl", tmp_path / "papers"
    papers.mkdir()
    (papers / "terms.pdf").write_bytes(b"%PDF-1.4 terms")
    # A batch takes seconds: while the first server sends one of a lane's six, the second one hears bells.
    with sink_process(record, final_seconds=0.25) as url:

        def host(name: str, **more: str) -> Stack:
            shared = {"BROKER_URL": redis_url, "LEDGER_URL": postgres_url, "RELAY_URL": url, "FROM": "erp@example.com"}
            own = {"DATA_DIR": str(tmp_path / name), "DELIVERY__BATCH_SIZE": "10", **more}
            return QuickStack({f"DISPATCHER_{key}": value for key, value in {**shared, **own}.items()}, "--no-flower")

        publisher = host("third", TEMPLATES_DIR=str(tmp_path / "third-templates"))
        producer = host("fourth")
        write_template(tmp_path / "third-templates", "Please pay")
        assert publisher.run("db", "upgrade").returncode == 0
        published = publisher.run("templates", "publish", "--yes", "--reason", "the first")
        assert published.returncode == 0, published.stderr
        lines = "\n".join(invoice(n, papers) for n in range(COUNT))
        with host("one") as one, host("two") as two:
            for each in (one, two):  # each by itself: to the broker a lane is served by any of them
                wait_for(lambda log=each.log: log().count(" ready.") == 3, 60)
            done = producer.run("submit", "-", "--json", stdin=lines)
            assert done.returncode == 0, done.stderr
            for path in papers.iterdir():
                path.unlink()  # nobody needs the producer's files any more
            idle = producer.run("wait", "--idle", "--timeout", "120")
            assert idle.returncode == 0, idle.stderr
            assert producer.json("status")["states"] == {"sent": COUNT}
            shares = [len(re.findall(r"status=sent", each.log())) for each in (one, two)]
            write_template(tmp_path / "third-templates", "Kindly pay")
            assert publisher.run("templates", "publish", "invoice", "--yes").returncode == 0
            later = one.run("send", "--to", "late@example.com", "--template", "invoice", "--data", '{"number": "R-x"}')
            assert later.returncode == 0, later.stderr
            assert producer.run("wait", "--idle", "--timeout", "30").returncode == 0
    assert sum(shares) == COUNT
    assert min(shares) > 0, shares
    received = {each.rcpt_to[0]: each.email for each in orders.read(record)}
    assert text_of(received.pop("late@example.com")).startswith("Kindly pay R-x")
    assert set(received) == {f"buyer{n}@example.com" for n in range(COUNT)}
    for n in range(COUNT):
        mail = received[f"buyer{n}@example.com"]
        assert text_of(mail).startswith(f"Please pay R-{n}.")
        own, terms = mail.iter_attachments()
        assert own.get_filename() == f"R-{n}.pdf"
        assert own.get_content() == b"%PDF-1.4 invoice " + str(n).encode() * 5000
        assert terms.get_content() == b"%PDF-1.4 terms"
