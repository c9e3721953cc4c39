"""docs/reports.md from its first line to its last, as a controller would follow it."""

import csv
import hashlib
import json
import re
import shlex
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path

import pytest

from dispatcher.servers.sink import Sink
from tests.commands import QuickStack
from tests.waiting import wait_for
from tests.zygote import zygote

GUIDE = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SCRIPT = "import sys; open(sys.argv[1], 'w').write('%PDF-1.4 ' + sys.argv[2])"
MAKES = [sys.executable, "-c", _SCRIPT, "{out}", "{customer}"]

pytestmark = pytest.mark.slow


def test_the_guide_works_as_it_stands(tmp_path: Path) -> None:
    for _, name, body in _BLOCK.findall(GUIDE):
        if name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(body, encoding="utf-8")
    with Sink() as sink:
        settings = {
            "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
            "DISPATCHER_RELAY_URL": sink.url,
            "DISPATCHER_FROM": "Bank <bank@example.com>",
            "DISPATCHER_ATTACHMENTS_DIRS": json.dumps([str(tmp_path)]),
            "DISPATCHER_REPORTS__RENDERERS": json.dumps({"statement": MAKES}),
            "DISPATCHER_REPORTS__MANIFESTS": json.dumps({"customers": ["cat", str(tmp_path / "statements.csv")]}),
        }
        with QuickStack(settings, "--no-flower") as stack:
            for body in (body for language, _, body in _BLOCK.findall(GUIDE) if language == "sh"):
                for line in body.splitlines():
                    done = zygote().run(shlex.split(line)[1:], stack.environment, folder=tmp_path, seconds=120)
                    assert "Traceback" not in done.stderr, done.stderr
                    assert done.returncode == 0, (line, done.stdout, done.stderr)
            # november, december and the monthly one to three each, the fix to one, and two mails to the owner
            wait_for(lambda: len(sink.received()) == 3 + 3 + 3 + 1 + 2, 60)
            (script,) = [body for language, _, body in _BLOCK.findall(GUIDE) if language == "python"]
            command, environment = [sys.executable, "-c", script], stack.environment
            said = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
            monthly, *others = said.stdout.splitlines()
            assert re.fullmatch(r"statements-\S+ 3", monthly)
            assert others == ["november-fix 1", "december 3", "november 3"]
            schedule = stack.json("schedules", "list")
            assert [each["name"] for each in schedule] == ["statements"]
        mails = [(each.rcpt_to[0], message_from_bytes(each.content)) for each in sink.received()]
    files = {
        (to, part.get_filename()): hashlib.sha256(part.get_payload(decode=True)).hexdigest()  # type: ignore[arg-type]  # a file is bytes
        for to, mail in mails
        for part in mail.walk()
        if part.get_filename()
    }
    rows = list(csv.DictReader((tmp_path / "november.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [(row["address"], row["file"], row["state"]) for row in rows] == [
        (f"{name}@example.com", file, "sent")
        for name, own in (("ada", "1001.pdf"), ("li", "1002.pdf"), ("bo", "1003.pdf"))
        for file in ("terms.pdf", own)
    ]
    assert all(files[row["address"], row["file"]] == row["sha256"] for row in rows)
    assert files["bo.new@example.com", "1003.pdf"] == files["bo@example.com", "1003.pdf"]
    assert files["li@example.com", "statement 1002.pdf"] == hashlib.sha256(b"%PDF-1.4 1002").hexdigest()
    assert {name for to, name in files if to == "you@example.com"} == {"distribution.csv", "distribution.json"}
