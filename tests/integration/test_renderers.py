"""Programs that make files: what they are given, how long they may take, and how much they may make."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatcher.adapters.renderers import CommandRenderers, Program
from dispatcher.errors import LedgerUnavailable, RenderError
from dispatcher.memory import MemoryBlobs
from tests.waiting import wait_for

PYTHON = sys.executable
VALUES = {"customer": "1001", "name": "李雷"}
WRITES = "import sys; open(sys.argv[1], 'w', encoding='utf-8').write('%PDF-1.4 ' + sys.argv[2])"


def made(program: Program, values: Mapping[str, object] = VALUES, seconds: float = 60.0) -> bytes:
    """What a program makes, by its blob."""
    blobs = MemoryBlobs()
    renderers = CommandRenderers({"pdf": program}, blobs.put, seconds=seconds, max_bytes=100_000)
    found = renderers.render("pdf", "1001.pdf", values)
    content = blobs.get(found["blob"])
    assert (found["filename"], found["content_type"], found["size"]) == ("1001.pdf", "application/pdf", len(content))
    assert hashlib.sha256(content).hexdigest() == found["blob"]
    return content


def fails(program: Program, said: str, seconds: float = 60.0, **values: str) -> None:
    with pytest.raises(RenderError, match=said):
        made(program, {**VALUES, **values}, seconds)


def test_a_command_makes_a_file_of_its_arguments() -> None:
    assert made((PYTHON, "-c", WRITES, "{out}", "{customer}")) == b"%PDF-1.4 1001"


def test_it_reads_the_values_on_stdin_and_none_of_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_SECRET_KEYS", "a-key-that-nobody-sees")
    script = (
        "import json, os, sys; found = json.load(sys.stdin); "
        "found['ours'] = [name for name in os.environ if name.startswith('DISPATCHER_')]; "
        "open(sys.argv[1], 'w').write('%PDF-' + json.dumps(found))"
    )
    found = json.loads(made((PYTHON, "-c", script, "{out}")).removeprefix(b"%PDF-"))
    assert found == {**VALUES, "ours": []}


def test_no_shell_sees_a_value() -> None:
    values = {"customer": "$(touch x); `id` && \"'"}
    assert made((PYTHON, "-c", WRITES, "{out}", "{customer}"), values) == f"%PDF-1.4 {values['customer']}".encode()


def test_a_python_function_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = "def make(values, out):\n    out.write_text('%PDF-' + values['name'], encoding='utf-8')\n"
    bad = "def bad(values, out):\n    raise ValueError('no rate for ' + values['customer'])\n"
    (tmp_path / "our_statements.py").write_text(function + bad, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert made("our_statements:make") == "%PDF-李雷".encode()
    fails("our_statements:bad", "renderer pdf: ended with 1: ValueError: no rate for 1001")


def test_what_goes_wrong_is_one_line() -> None:
    fails((PYTHON, "-c", "import sys; sys.exit('no such customer')"), "ended with 1: no such customer")
    fails((PYTHON, "-c", "pass"), "has made no file 1001.pdf")
    fails(("/nowhere/make-pdf", "{out}"), "/nowhere/make-pdf cannot be run: No such file or directory")
    fails((PYTHON, "-c", WRITES, "{out}", "{amount}"), "there is no 'amount'")
    fails((PYTHON, "-c", WRITES, "{out}", "{customer}"), "would be an option", customer="--out=/etc/passwd")
    fails((PYTHON, "-c", "import sys; open(sys.argv[1], 'w').write('<html>')", "{out}"), "1001.pdf, which is no PDF")
    link = "import os, sys; os.symlink('/etc/passwd', sys.argv[1])"
    fails((PYTHON, "-c", link, "{out}"), "has made no file 1001.pdf")


def test_one_that_makes_too_much_is_stopped() -> None:
    endless = "import sys; file = open(sys.argv[1], 'wb')\nwhile True: file.write(b'%PDF-' * 1000)"
    fails((PYTHON, "-c", endless, "{out}"), "more than 100,000 bytes|File too large")


def test_one_that_hangs_is_stopped_with_all_that_it_has_begun(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"open({str(pid)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    fails((PYTHON, "-c", script), "took more than 3 s and was stopped", seconds=3.0)
    child = int(wait_for(pid.read_text, 10))
    wait_for(lambda: not _lives(child), 10)


def test_what_a_command_asks_for_is_known_before() -> None:
    programs: dict[str, Program] = {"pdf": ("make", "{out}", "--for={customer}", "{month}"), "py": "ours:make"}
    renderers = CommandRenderers(programs, MemoryBlobs().put, seconds=1.0, max_bytes=1)
    assert renderers.wanted("pdf") == {"customer", "month"}
    assert renderers.wanted("py") == set()


def test_a_machine_that_has_no_room_is_no_fault_of_the_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(LedgerUnavailable, match="renderer pdf: No such file"):
        made((PYTHON, "-c", WRITES, "{out}", "{customer}"))


def test_a_program_that_is_being_replaced_is_no_fault_of_the_mail(tmp_path: Path) -> None:
    program = tmp_path / "make"
    with program.open("wb") as file:
        file.write(Path("/bin/true").read_bytes())
        program.chmod(0o755)
        file.flush()
        with pytest.raises(LedgerUnavailable, match="renderer pdf: Text file busy"):
            made((str(program), "{out}"))


def test_a_file_that_cannot_be_read_is_the_mails_fault() -> None:
    fails(
        (PYTHON, "-c", WRITES + "; import os; os.remove(sys.argv[1]); os.mkdir(sys.argv[1])", "{out}", "x"), "no file"
    )


def test_no_file_is_made_in_another_folder(tmp_path: Path) -> None:
    renderers = CommandRenderers(
        {"pdf": (PYTHON, "-c", WRITES, "{out}", "x")}, MemoryBlobs().put, seconds=60.0, max_bytes=1000
    )
    for filename in (f"{tmp_path}/x.pdf", "../x.pdf", "..", ""):
        with pytest.raises(RenderError, match="cannot be in a file's name"):
            renderers.render("pdf", filename, VALUES)
    assert list(tmp_path.iterdir()) == []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
