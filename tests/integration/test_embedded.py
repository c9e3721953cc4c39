"""The embedded broker when it does not come up: mail is accepted all the same, and one line says what to do."""

import pytest

from tests.commands import Cli, QuickStack, cli
from tests.waiting import wait_for
from tests.zygote import zygote

__all__ = ["cli"]


@pytest.mark.slow
def test_a_broker_whose_file_is_damaged_is_named_and_mail_is_accepted_meanwhile(cli: Cli) -> None:
    del cli.environment["PYTHONWARNINGS"]  # Celery has one for root
    with QuickStack(cli.environment, "--no-flower"):
        pass
    (file,) = (cli.folder / "var" / "broker" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" + bytes(range(200)) + file.read_bytes())

    log = cli.folder / "up.log"
    with log.open("wb") as said:
        stack = zygote().start(["up", "--no-flower"], cli.environment, output=said, errors=said)
    try:
        wait_for(lambda: "broker ended with exit code" in log.read_text())
        sent = cli("send", "--to", "ann@example.com", "--subject", "Hi", "--text", "Hello")
        assert sent.returncode == 0, sent.stderr
        assert stack.wait(60) == 2
    finally:
        stack.kill()
    (line,) = [line for line in log.read_text().splitlines() if "the embedded broker: does not start" in line]
    assert f"move {cli.folder / 'var' / 'broker'} away" in line
    assert cli.json("messages", "list")[0]["state"] == "queued"
