"""Scripts of the sink as files: what the page shows works, what is wrong is told in one line, the command obeys."""

import re
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

import dispatcher.testing
from dispatcher.errors import ConfigurationError
from dispatcher.reply import Phase
from dispatcher.servers.sink import Rule, Script, Sink
from tests.processes import SinkProcess
from tests.smtpd import HOST
from tests.zygote import COMMAND, clean

PAGE = Path(__file__).parents[2] / "docs" / "fault-sink.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [body for found, body in _BLOCK.findall(PAGE.read_text(encoding="utf-8")) if found == language]


def written(folder: Path, text: str) -> Path:
    path = folder / "faults.toml"
    path.write_text(text, encoding="utf-8")
    return path


def code(port: int, recipient: str) -> int:
    with smtplib.SMTP(HOST, port, timeout=10, local_hostname="test") as client:
        client.ehlo()
        client.mail("a@x.example")
        return client.rcpt(recipient)[0]


def test_the_pages_scripts_say_what_they_look_like(tmp_path: Path) -> None:
    first, second = (Script.read(written(tmp_path, body)) for body in blocks("toml"))
    assert first.seed == 7
    assert first.rules == (
        Rule.refuse("gone@*"),
        Rule.defer("*@busy.example", times=2),
        Rule(phase=Phase.FINAL, chance=0.01, accept=True, drop=True),
        Rule(phase=Phase.FINAL, hold=(0.0, 0.3)),
    )
    assert second.rules[0] == Rule(phase=Phase.CONNECT, above=5, reply="421 4.7.0 Too many connections")
    assert second.rules[4] == Rule("late@*", phase=Phase.FINAL, accept=True, hold=600.0)
    assert second.rules[6] == Rule(phase=Phase.EHLO, drip=1.0)
    assert len(second.rules) == 8


def test_the_page_names_every_field_and_every_phase() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in (*Rule.__dataclass_fields__, *Phase):
        assert f"`{name}`" in page, name


def test_the_pages_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    exec(compile(program, str(PAGE), "exec"), {})
    assert capsys.readouterr().out == "in doubt\n"


def test_testing_hands_out_the_sink() -> None:
    assert (dispatcher.testing.Sink, dispatcher.testing.Script, dispatcher.testing.Rule) == (Sink, Script, Rule)


WRONG = [
    ("seed = 1\n[[rule]\n", r"Expected .*line 2"),
    ("seed = true", "seed: must be a whole number"),
    ("rules = []", "rules: unknown field; known are seed, users, tls, rule"),
    ("rule = 1", r"rule: must be a list of tables: write \[\[rule\]\]"),
    ("rule = [1]", "rule 1: rule: must be a table"),
    ("[[rule]]\ndrop = true\n\n[[rule]]\nphase = 'dot'", "line 5, rule 2: phase: must be one of connect, tls, "),
    ("[[rule]]\nadress = 'a@*'", "line 2, rule 1: adress: unknown field; known are phase, address"),
    ("[[rule]]\nreply = 550", "line 2, rule 1: reply: must be a string"),
    ("[[rule]]\ndrop = 1", "rule 1: drop: must be true or false"),
    ("[[rule]]\ndrop = true\ntimes = 1.5", "rule 1: times: must be a whole number"),
    ("[tls]", "tls.certificate: required"),
    ("[[rule]]\ndrop = true\n[[rule]]\ndrop = true\ntimes = 0", "line 5, rule 2: times: must be at least 1"),
    ("[[rule]]\ndrop = true\nchance = 'often'", "rule 1: chance: must be a number"),
    ("[[rule]]\nhold = 'long'", "rule 1: hold: 'long' is no duration: write 90s"),
    ("[[rule]]\nhold = [1]", "rule 1: hold: must be a time such as"),
    ("[[rule]]\nhold = true", "rule 1: hold: must be a number"),
    ("[[rule]]\nhold = ['3s', '1s']", "rule 1: hold: must be a time, or two"),
    ("[[rule]]", "line 1, rule 1: it does nothing"),
    ("users = 1", "users: must be a table"),
    ("[users]\nerp = 1", "users.erp: must be a string"),
    ("[tls]\nimplicit = true", "tls.certificate: required"),
    ("[tls]\ncertificate = 'no.pem'", r"tls.certificate: .*/no\.pem: No such file"),
    ("[tls]\ncertificate = 'faults.toml'", r"tls.certificate: .*/faults\.toml: "),
    ("[tls]\ncert = 'a.pem'", "cert: unknown field; known are certificate, key, implicit"),
    ("[[rule]]\nreply = '\udcff'", "line 2: is not UTF-8"),
]


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=words) as caught:
        Script.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.toml: cannot be read: No such file"):
        Script.read(tmp_path / "no.toml")


def test_a_head_within_a_text_spoils_no_line_number(tmp_path: Path) -> None:
    text = "[[rule]]\nreply = '''\n[[rule]]\n'''\n\n[[rule]]\ndrop = 1\n"
    with pytest.raises(ConfigurationError, match=r"toml: rule 2: drop"):
        Script.read(written(tmp_path, text))


def test_tls_and_users_come_from_the_script(tmp_path: Path) -> None:
    trustme.CA().issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "relay.pem"))
    script = Script.read(written(tmp_path, "[users]\nerp = 'secret'\n[tls]\ncertificate = 'relay.pem'\n"))
    with Sink(script=script) as sink, smtplib.SMTP(HOST, sink.port, timeout=10) as client:
        assert sink.url.endswith("?tls=starttls")
        client.starttls()
        client.login("erp", "secret")
        assert client.mail("a@x.example")[0] == 250


@contextmanager
def commanded(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``dispatcher sink`` with these options, and the first line that it says."""
    process = subprocess.Popen(
        [*COMMAND, "sink", "--port", "0", *options],
        cwd=folder,
        env=clean(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_command_goes_by_a_script_and_tells_what_struck(tmp_path: Path) -> None:
    written(tmp_path, blocks("toml")[0])
    with commanded(tmp_path, "--script", "faults.toml") as (process, url):
        port = int(url.partition("?")[0].rpartition(":")[2])
        assert [code(port, to) for to in ("gone@x.example", "a@busy.example", "b@x.example")] == [550, 451, 250]
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "rule 1 struck 1 time\n" in told
    assert "rule 2 struck 1 time\n" in told
    assert "rule 3 struck 0 times\n" in told


def test_a_bad_script_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    written(tmp_path, "[[rule]]\nphase = 'dot'\n")
    with commanded(tmp_path, "--script", "faults.toml") as (process, said):
        _, told = process.communicate(timeout=30)
    assert (process.returncode, said) == (2, "")
    assert told.startswith("dispatcher: faults.toml: line 2, rule 1: phase: must be one of connect")
    assert told.count("\n") == 1


def test_a_sink_in_a_process_changes_its_rules_at_once(tmp_path: Path) -> None:
    sink = SinkProcess(tmp_path / "sink.jsonl", script="[[rule]]\nreply = '550 no'\n")
    sink.start()
    try:
        assert code(sink.port, "a@x.example") == 550
        with smtplib.SMTP(HOST, sink.port, timeout=10, local_hostname="test") as client:
            client.ehlo()
            client.mail("a@x.example")
            sink.follow("[[rule]]\nreply = '451 no'\n")
            assert client.rcpt("a@x.example")[0] == 451
        sink.stop(signal.SIGKILL)
        sink.start()  # by the last rules
        assert code(sink.port, "a@x.example") == 451
        sink.follow("")
        assert code(sink.port, "a@x.example") == 250
    finally:
        sink.stop()
