"""A report whose taking in is killed, and whose workers are killed twice while they send it: every file arrives at its
person, byte for byte, and at nobody else."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.report_job import ReportState
from dispatcher.servers.recording import Recording
from tests import documents
from tests.faults.world import BOTH, CONNECTIONS, KINDS, POSTGRES, World, make_world
from tests.processes import children, kill, member
from tests.sizes import sized
from tests.waiting import wait_for
from tests.zygote import zygote

COUNT, SIZE, SHARED = sized(450, 5000), sized(20_000, 200_000), sized(100_000, 2_000_000)
MADE = 20
SCRIPT = """
import sys, time
customer, out = sys.argv[1:]
if customer in ("3", "4", "5"):
    sys.exit("no balance for customer " + customer)
if customer == "6":
    time.sleep(600)
with open(out, "wb") as file:
    file.write(b"%PDF-1.4 " + customer.encode())
    if customer == "7":
        file.write(b"x" * 60_000_000)
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(sized(400, 3600))]


@pytest.fixture(scope="module", params=KINDS if BOTH else POSTGRES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    command = [sys.executable, "-c", SCRIPT, "{customer}", "{out}"]
    settings = {
        "DISPATCHER_FROM": "bank@example.com",
        "DISPATCHER_REPORTS__RENDERERS": json.dumps({"statement": command}),
        "DISPATCHER_REPORTS__RENDER_SECONDS": "5",
        "DISPATCHER_DELIVERY__LEASE_SECONDS": "90",
        "DISPATCHER_DELIVERY__TASK_SECONDS": "60",
        "DISPATCHER_DELIVERY__BATCH_SECONDS": "5",
    }
    with make_world(request.param, tmp_path_factory.mktemp("reports"), final_seconds=0.01, **settings) as made:
        yield made


def over(world: World, name: str) -> dict[str, int]:
    """Wait until it is; its mails by state."""

    def shown() -> dict[str, int] | None:
        found = world.stack.json("reports", "show", name)
        return found["sums"] if found["state"] == "finished" else None

    return wait_for(shown, sized(200, 1800), every=0.5)


def test_every_file_arrives_at_its_person(world: World) -> None:
    made, before = documents.write(world.folder / "documents", COUNT, SIZE, SHARED), world.taken()
    send = ["reports", "send", "statements", "--manifest", str(made.manifest), "--folder", str(made.folder)]
    send += ["--file", "{customer}.pdf", "--attach", str(made.terms), "--subject", "Statement", "--text", "Yours."]
    with world.producer() as producer:
        log = world.folder / "send.log"
        with log.open("wb") as said:
            taking = zygote().start(send, world.stack.environment, output=said, errors=said)
        wait_for(lambda: any(each.cursor and each.name == "statements" for each in producer.reports.listed()), 120)
        taking.kill()
        stands = producer.reports.get("statements")
        assert stands.state is ReportState.TAKING, "it was taken in before it could be killed"
        assert world.taken() == before  # as a whole, or not at all
        done = world.stack.run(*send)
        assert done.returncode == 0, done.stderr
    died = 0
    for _ in range(2):
        world.flows(20)
        bulk = member(world.stack, "mail.bulk")
        died += len(children(bulk))
        for pid in (*children(bulk), bulk):
            kill(pid)
    assert over(world, "statements") == {"sent": COUNT}
    mails = [each for each in Recording.read(world.record) if not each.rcpt_to[0].startswith("made-")]
    got = list(documents.arrived(mails))
    assert all(files == made.digests[address] for address, files in got)
    times = Counter(address for address, _ in got)
    assert times.keys() == made.digests.keys()
    assert sum(times.values()) - len(times) <= died * CONNECTIONS  # what was begun when its worker died
    world.submitted += COUNT
    world.prove(in_doubt_events=died * CONNECTIONS, doubled=died * CONNECTIONS)
    proof = world.folder / "proof.json"
    assert world.stack.run("reports", "report", "statements", "--json", str(proof)).returncode == 0
    lines = json.loads(proof.read_text(encoding="utf-8"))["lines"]
    told = {address: {line["sha256"] for line in lines if line["address"] == address} for address in list(times)[:20]}
    assert told == {address: made.digests[address] for address in told}
    assert world.stack.run("reports", "verify", str(proof)).returncode == 0
    proof.write_bytes(proof.read_bytes().replace(b'"sent"', b'"lost"', 1))
    assert world.stack.run("reports", "verify", str(proof)).returncode == 1


def test_a_file_that_cannot_be_made_stops_nobody_else(world: World, tmp_path: Path) -> None:
    rows = [json.dumps({"recipient": f"made-{n}@example.com", "customer": str(n)}) for n in range(MADE)]
    manifest = tmp_path / "made.jsonl"
    manifest.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    send = ["reports", "send", "made", "--manifest", str(manifest), "--render", "statement"]
    send += ["--filename", "statement {customer}.pdf", "--subject", "Statement", "--text", "Yours."]
    done = world.stack.run(*send)
    assert done.returncode == 0, done.stderr
    assert over(world, "made") == {"sent": MADE - 5, "invalid": 5}
    with world.producer() as producer:
        found = {row.address: row for row in producer.reports.rows(producer.reports.get("made"))}
    ill = {address.removeprefix("made-").partition("@")[0]: row.text for address, row in found.items() if not row.files}
    assert {n: text for n, text in ill.items() if n in ("3", "4", "5")} == {
        n: f"renderer statement: ended with 1: no balance for customer {n}" for n in ("3", "4", "5")
    }
    assert ill["6"] == "renderer statement: took more than 5 s and was stopped"
    assert "more than 10,485,760 bytes" in ill["7"] or "File too large" in ill["7"]
    for each in Recording.read(world.record):
        if each.rcpt_to[0].startswith("made-"):
            ((_, (digest,)),) = documents.arrived([each])
            assert digest == found[each.rcpt_to[0]].files[0].sha256
    world.submitted += MADE
