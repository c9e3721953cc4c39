"""The command line as people and programs meet it: what it prints where, and with which exit code it ends."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from dispatcher.cli import app
from tests.commands import ORDER, Cli, errors
from tests.servers import free_port
from tests.zygote import COMMAND

# -- help


def commands() -> list[tuple[str, ...]]:
    """Every command there is, by its words."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk(inner, (*words, name))
        else:
            yield words

    return list(walk(get_command(app), ()))


def test_every_command_of_the_contract_is_there() -> None:
    groups = {"messages": "list show cancel retry resolve export", "rejects": "list show resubmit drop"}
    groups |= {"audiences": "preview import list show members rejects export drop"}
    groups |= {"templates": "list check preview publish versions", "relays": "list test", "db": "upgrade"}
    expected = {(group, name) for group, names in groups.items() for name in names.split()}
    alone = "demo up send submit status verify wait pause resume acts doctor broker-url sink"
    expected |= {(name,) for name in alone.split()}
    assert expected <= set(commands())


def test_every_command_has_an_example_and_json() -> None:
    for words in commands():
        command: Any = get_command(app)
        for word in words:
            command = command.commands[word]
        assert (command.epilog or "").startswith("Example: "), words
        assert f"dispatcher {' '.join(words)}" in command.epilog, words
        options = {name for parameter in command.params for name in parameter.opts}
        assert "--json" in options or words == ("up",), words


def test_help_and_version_answer_at_once_and_import_nothing_heavy(cli: Cli) -> None:
    code = (
        "import sys\nfrom dispatcher.cli import main\nsys.argv = ['dispatcher', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'celery', 'sqlalchemy', 'jinja2', 'pydantic', 'rich', 'redis'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"dispatcher \d+\.\d+\.\d+\n", cli("--version").stdout)


# -- bad input: one line that names the place, the right exit code


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--to", "nobody"), r"^dispatcher: to\[0\]: "),
        (("--to", "a@example.com", "--cc", "a b@example.com"), r"^dispatcher: cc\[0\]: "),
        (("--template", "welcom"), r"^dispatcher: template: no template is called 'welcom'; did you mean welcome\?"),
        (("--locale", "x!"), r"^dispatcher: locale: "),
        (("--data", "{}"), r"^dispatcher: data\.customer: is missing"),
        (("--data", '{"customer": {"name": 7}}'), r"^dispatcher: data\.customer\.name: must be of type string"),
        (("--data", '{"customer'), r"^dispatcher: --data: is not JSON: .* at column \d+"),
        (("--data", "missing.json"), r"^dispatcher: --data: cannot read missing\.json: No such file"),
        (("--attach", "missing.pdf"), r"^dispatcher: attachments\[0\]\.path: no file 'missing\.pdf'"),
        (("--attach", "large.bin"), r"^dispatcher: attachments\[0\]\.path: large\.bin is over the limit of 1,000"),
        (("--at", "2020-01-01T00:00Z"), r"^dispatcher: send_at: 2020-01-01T00:00:00\+00:00 is in the past"),
        (("--lane", "fast"), r"^dispatcher: lane: 'fast' is unknown"),
        (("--relay", "elsewhere"), r"^dispatcher: relay: 'elsewhere' is not configured"),
        (("--header", "Bcc=x@example.com"), r"^dispatcher: headers\.Bcc: "),
        (("--subject", "both"), r"^dispatcher: subject: .* not both"),
    ],
)  # fmt: skip
def test_a_mail_that_cannot_be_accepted_is_one_line_and_exit_2(
    cli: Cli, arguments: tuple[str, ...], reason: str
) -> None:
    (cli.folder / "large.bin").write_bytes(bytes(1001))
    usual = {"--to": "a@example.com", "--template": "welcome", "--data": '{"customer": {"name": "Ann"}}'}
    for name in arguments[::2]:
        usual.pop(name, None)
    rest = [word for pair in usual.items() for word in pair]
    done = cli("send", *rest, *arguments, DISPATCHER_MAX_MESSAGE_BYTES="1000")
    assert done.returncode == 2
    (line,) = errors(done)
    assert re.search(reason, line), line
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("DISPATCHER_RELAY_URL", "smpt://user:hunter2@mail.example.com", "DISPATCHER_RELAY_URL: must begin with smtp://"),
        ("DISPATCHER_RELAY_ULR", "smtp://mail.example.com", "DISPATCHER_RELAY_ULR: unknown setting"),
        ("DISPATCHER_LEDGER_URL", "sqlite:////nowhere/at/all.db", "DISPATCHER_LEDGER_URL: cannot use /nowhere"),
        ("DISPATCHER_LEDGER_URL", "nonsense", "DISPATCHER_LEDGER_URL: unknown scheme"),
        ("DISPATCHER_TEMPLATES_DIR", "nowhere", "DISPATCHER_TEMPLATES_DIR: no folder at nowhere"),
        ("DISPATCHER_CONFIG", "nowhere.toml", "DISPATCHER_CONFIG: no file at nowhere.toml"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line_and_exit_2(cli: Cli, name: str, value: str, reason: str) -> None:
    done = cli("send", "--to", "a@example.com", "--subject", "x", "--text", "y", **{name: value})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"dispatcher: {reason}"), line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "command", [("up",), ("status",), ("send", "--to", "a@example.com", "--subject", "x", "--text", "y")]
)
def test_a_data_folder_that_cannot_be_is_one_line_and_exit_2(cli: Cli, command: tuple[str, ...]) -> None:
    (cli.folder / "file").write_text("")
    done = cli(*command, DISPATCHER_DATA_DIR=str(cli.folder / "file" / "var"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("dispatcher: DISPATCHER_DATA_DIR: cannot write to ")


@pytest.mark.parametrize("command", [("up",), ("status",), ("messages", "list")])
def test_a_ledger_that_this_program_cannot_use_is_one_line(cli: Cli, command: tuple[str, ...]) -> None:
    (cli.folder / "var").mkdir(mode=0o700)
    (cli.folder / "var" / "ledger.db").write_bytes(b"no database at all, " * 100)
    done = cli(*command)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("dispatcher: DISPATCHER_LEDGER_URL: ")


def test_a_ledger_out_of_reach_is_exit_3(cli: Cli) -> None:
    url = "postgresql+psycopg://u:hunter2@127.0.0.1:1/x"
    done = cli("status", DISPATCHER_LEDGER_URL=url)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "hunter2" not in line


# -- submit


def test_bad_lines_are_named_and_kept_and_the_rest_goes_on(cli: Cli) -> None:
    file = cli.lines(
        {**ORDER, "idempotency_key": "1"},
        {**ORDER, "templat": "x"},
        {**ORDER, "to": ["nobody"]},
        {**ORDER, "template": "nope"},
        {**ORDER, "locale": "x!"},
        {**ORDER, "data": {}},
        {**ORDER, "attachments": [{"path": "missing.pdf"}]},
        {**ORDER, "send_at": "2020-01-01T00:00:00Z"},
        '{"template": ',
        b'{"subject": "\xff"}',
        b'{"subject": "' + b"x" * (10 << 20) + b'"}',
        "[1]",
        "",
        {**ORDER, "idempotency_key": "2"},
        {**ORDER, "idempotency_key": "1"},
    )
    done = cli("submit", file, "--rejects", "bad.jsonl")
    assert done.returncode == 1
    assert done.stdout == "accepted 2 · duplicate 1 · rejected 11\n"
    places = {int(line.split(":")[1]): line.split(": ", 1)[1] for line in errors(done)}
    assert sorted(places) == list(range(2, 13))
    starts = {
        2: "templat: unknown field", 3: "to[0]: ", 4: "template: no template is called 'nope'", 5: "locale: ",
        6: "data.customer: is missing", 7: "attachments[0].path: no file", 8: "send_at: ",
        9: "is not JSON: Expecting value at column", 10: "is not UTF-8 (byte 14)", 11: "is longer than 8 MiB",
        12: "a submission is a JSON object",
    }  # fmt: skip
    for number, start in starts.items():
        assert places[number].startswith(start), places[number]
    kept = [json.loads(line) for line in (cli.folder / "bad.jsonl").read_text().splitlines()]
    assert sorted(row["line"] for row in kept) == list(range(2, 13))
    by_line = {row["line"]: row for row in kept}
    assert by_line[3]["field"] == "to[0]"
    assert by_line[3]["payload"]["to"] == ["nobody"]
    assert by_line[9]["payload"] == '{"template": '
    assert len(by_line[11]["payload"]) < 2000
    assert cli.json("status")["states"] == {"queued": 2}


def test_the_same_file_again_is_all_duplicates_and_other_content_is_not(cli: Cli) -> None:
    file = cli.lines(*({**ORDER, "idempotency_key": str(n)} for n in range(3)))
    assert cli.json("submit", file) == {"accepted": 3, "duplicate": 0, "rejected": 0}
    assert cli.json("submit", file) == {"accepted": 0, "duplicate": 3, "rejected": 0}
    changed = cli.lines({**ORDER, "idempotency_key": "0", "to": ["bob@example.com"]})
    done = cli("submit", changed)
    assert done.returncode == 1
    assert "mails.jsonl:1: idempotency_key: '0' already belongs to submission" in done.stderr
    assert "differs in: to" in done.stderr


def test_lines_come_from_stdin_too(cli: Cli) -> None:
    done = cli("submit", "-", stdin="\ufeff" + json.dumps(ORDER) + "\nnonsense")
    assert (done.returncode, done.stdout) == (1, "accepted 1 · duplicate 0 · rejected 1\n")
    assert errors(done)[0].startswith("-:2: is not JSON")


def test_an_attachment_of_a_line_must_lie_in_the_folders_that_are_set(cli: Cli) -> None:
    allowed = cli.folder / "allowed"
    allowed.mkdir()
    for path in (cli.folder / "outside.pdf", allowed / "inside.pdf"):
        path.write_bytes(b"%PDF-1.4")
    file = cli.lines(*({**ORDER, "attachments": [{"path": p}]} for p in ("inside.pdf", "../outside.pdf")))
    done = cli("submit", file, DISPATCHER_ATTACHMENTS_DIRS=json.dumps([str(allowed)]))
    assert done.stdout == "accepted 1 · duplicate 0 · rejected 1\n"
    assert (
        "mails.jsonl:2: attachments[0].path: no file '../outside.pdf' inside DISPATCHER_ATTACHMENTS_DIRS" in done.stderr
    )


def test_a_file_that_is_not_there_is_exit_2(cli: Cli) -> None:
    done = cli("submit", "nowhere.jsonl")
    assert done.returncode == 2
    assert done.stderr == "dispatcher: nowhere.jsonl: cannot be read: No such file or directory\n"


@pytest.mark.slow
def test_a_large_file_is_read_in_flat_memory(cli: Cli) -> None:
    line = json.dumps({**ORDER, "to": ["nobody"], "metadata": {"x": "y" * 200_000}})
    (cli.folder / "small.jsonl").write_text(f"{line}\n" * 20)
    (cli.folder / "large.jsonl").write_text(f"{line}\n" * 600)
    code = "import resource, sys\nsys.argv = ['dispatcher', 'submit', sys.argv[1]]\nfrom dispatcher.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    peaks = []
    for name in ("small.jsonl", "large.jsonl"):
        done = subprocess.run(
            [sys.executable, "-c", code, name], cwd=cli.folder, env=cli.environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 60_000  # kB, of a file of 120 MB


# -- one mail


def test_send_prints_the_receipt_and_says_that_nobody_serves_the_ledger(cli: Cli) -> None:
    done = cli("send", "--to", "ann@example.com", "--subject", "Hi", "--text", "Hello", "--idempotency-key", "k")
    assert done.returncode == 0
    assert re.fullmatch(r"[a-z2-7]{16}\taccepted for 1 recipient, queued\n", done.stdout)
    assert "no worker serves this ledger: start one with `dispatcher up`" in done.stderr
    receipt = cli.json(
        "send", "--to", "ann@example.com", "--subject", "Hi", "--text", "Hello", "--idempotency-key", "k"
    )
    assert (receipt["duplicate"], receipt["recipients"][0]["to"]) == (True, "ann@example.com")


def test_send_says_that_the_broker_is_out_of_reach(cli: Cli) -> None:
    done = cli(
        "send", "--to", "a@example.com", "--subject", "Hi", "--text", "x", DISPATCHER_BROKER_URL="redis://127.0.0.1:1"
    )
    assert done.returncode == 0
    assert "accepted, and sent once workers can be rung: DISPATCHER_BROKER_URL: " in done.stderr


def test_send_reads_data_text_and_attachments_from_files(cli: Cli) -> None:
    (cli.folder / "data.json").write_text('{"customer": {"name": "李雷"}}', encoding="utf-8")
    (cli.folder / "发票.pdf").write_bytes(b"%PDF-1.4")
    done = cli(
        "send", "--to", "a@example.com", "--template", "welcome", "--data", "data.json", "--attach", "发票.pdf",
        "--idempotency-key", "k",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    raw = cli("messages", "show", "k", "--raw")
    assert "filename*=utf-8''%E5%8F%91%E7%A5%A8.pdf" in raw.stdout
    assert "never sent so far" in raw.stderr


def test_send_waits_no_longer_than_it_may(cli: Cli) -> None:
    done = cli("send", "--to", "a@example.com", "--subject", "Hi", "--text", "x", "--wait", "--timeout", "0.3")
    assert done.returncode == 3
    assert "not settled yet, and no worker serves this ledger: time ran out" in done.stderr


def test_a_mail_for_later_waits_for_its_time(cli: Cli) -> None:
    assert cli("send", "--to", "a@example.com", "--subject", "Hi", "--text", "x", "--at", "+2h").returncode == 0
    assert cli.json("status")["scheduled"] == 1
    assert cli("wait", "--idle", "--timeout", "0").returncode == 0


# -- wait


@pytest.mark.parametrize("arguments", [(), ("--ready", "--idle"), ("x", "--idle")])
def test_wait_needs_exactly_one_thing_to_wait_for(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("wait", *arguments).returncode == 2


def test_wait_ends_with_3_when_the_time_runs_out(cli: Cli) -> None:
    cli("send", "--to", "a@example.com", "--subject", "Hi", "--text", "x", "--idempotency-key", "k")
    for arguments in (("--ready",), ("--idle",), ("k",)):
        done = cli("wait", *arguments, "--timeout", "0.3")
        assert done.returncode == 3, arguments
        assert "time ran out" in done.stderr


def test_wait_for_an_id_that_is_nobodys_is_exit_2(cli: Cli) -> None:
    done = cli("wait", "nobodys", "--timeout", "1")
    assert done.returncode == 2
    assert "'nobodys' is no id" in done.stderr


# -- messages and rejects


def test_what_changes_something_says_how_many_and_who(cli: Cli) -> None:
    cli("submit", cli.lines(*({**ORDER, "tags": ["t"], "idempotency_key": str(n)} for n in range(3))))
    refused = cli("messages", "cancel", "--tag", "t")
    assert refused.returncode == 2
    assert refused.stderr == "dispatcher: 3 deliveries will be cancelled; nobody is here to be asked, so add --yes\n"
    done = cli("messages", "cancel", "--tag", "t", "--reason", "wrong price", "--yes")
    assert (done.returncode, done.stdout) == (0, "3 deliveries changed\n")
    assert "3 deliveries will be cancelled" in done.stderr
    (shown,) = cli.json("messages", "show", "0")
    assert (shown["state"], shown["to"]) == ("cancelled", "ann@example.com")
    assert shown["history"][-1]["text"] == "wrong price"
    assert "@" in shown["history"][-1]["actor"]
    assert " by " in cli("messages", "show", "0").stdout
    again = cli("messages", "retry", "0", "--yes", "--json")
    assert json.loads(again.stdout) == {"expected": 1, "changed": 1, "wiped": 0}
    assert cli.json("status")["states"] == {"queued": 1, "cancelled": 2}
    assert cli("messages", "resolve", "1", "--sent", "--yes").returncode == 1  # nothing is in doubt


def test_a_change_of_everything_by_oversight_is_refused(cli: Cli) -> None:
    assert cli("messages", "cancel", "--yes").returncode == 2


def test_mails_are_found_by_every_condition_and_exported(cli: Cli) -> None:
    cli("submit", cli.lines(
        {**ORDER, "metadata": {"customer": 7}, "idempotency_key": "a"},
        {**ORDER, "to": ["bob@example.com"], "lane": "bulk", "idempotency_key": "b"},
    ))  # fmt: skip
    for arguments in (("--to", "bob@example.com"), ("--lane", "bulk"), ("--idempotency-key", "b"), ("b",)):
        (found,) = cli.json("messages", "list", *arguments)
        assert found["to"] == "bob@example.com"
    (found,) = cli.json("messages", "list", "--metadata", "customer=7", "--since", "1h", "--state", "queued")
    assert found["to"] == "ann@example.com"
    assert cli.json("messages", "list", "--state", "sent") == []
    lines = cli("messages", "export").stdout.splitlines()
    assert {json.loads(line)["to"] for line in lines} == {"ann@example.com", "bob@example.com"}
    assert cli("messages", "export", "--format", "csv", "--output", "out.csv").returncode == 0
    assert (cli.folder / "out.csv").read_text().splitlines()[0].startswith("id,submission,message_id,to,")
    assert len(cli("messages", "list").stdout.splitlines()) == 2


def test_a_mail_with_a_sensitive_variable_is_never_printed(cli: Cli) -> None:
    secret = "https://shop.example/reset?token=hunter2"
    data = json.dumps({"customer": {"name": "Ann"}, "reset_url": secret, "expires_minutes": 30})
    done = cli(
        "send", "--to", "a@example.com", "--template", "password_reset", "--data", data, "--idempotency-key", "k"
    )
    assert done.returncode == 0, done.stderr
    raw = cli("messages", "show", "k", "--raw")
    assert raw.returncode == 2
    assert raw.stdout == ""
    assert "x-sensitive variables, which are never printed" in raw.stderr
    assert "hunter2" not in cli("messages", "show", "k").stdout + cli("messages", "show", "k", "--json").stdout
    assert cli("messages", "cancel", "k", "--yes").returncode == 0
    wiped = cli("messages", "show", "k", "--raw")
    assert (wiped.returncode, wiped.stdout) == (2, "")
    assert "was wiped" in wiped.stderr


def test_rejects_are_shown_resubmitted_and_dropped(cli: Cli) -> None:
    keep = (
        "from dispatcher import Dispatcher\n"
        "with Dispatcher.open() as d:\n"
        "    d.take_in({'to': ['nobody']}, door='task', reference='t1', producer='erp')\n"
        "    d.take_in({'subject': 'x', 'text': 'y', 'to': ['a@example.com'], 'relay': 'later'},\n"
        "              door='task', reference='t2')\n"
    )
    subprocess.run([sys.executable, "-c", keep], cwd=cli.folder, env=cli.environment, check=True)
    second, first = cli.json("rejects", "list")
    assert (first["reference"], first["door"], first["producer"]) == ("t1", "task", "erp")
    assert second["field"] == "relay"
    assert '"nobody"' in cli("rejects", "show", str(first["id"])).stdout
    assert cli("rejects", "drop", str(first["id"])).returncode == 2  # nobody was asked
    assert cli("rejects", "drop", str(first["id"]), "--yes").returncode == 0
    again = cli("rejects", "resubmit", str(second["id"]), "--yes")
    assert again.returncode == 1
    assert "relay: 'later' is not configured" in again.stderr
    url = {"DISPATCHER_RELAYS__LATER__URL": "smtp://127.0.0.1:2"}
    assert cli("rejects", "resubmit", str(second["id"]), "--yes", **url).returncode == 0
    assert cli.json("rejects", "list") == []
    assert {reject["outcome"] for reject in cli.json("rejects", "list", "--all")} == {"dropped", "resubmitted"}
    assert cli("rejects", "show", "4711").returncode == 2


def test_a_file_that_a_producer_may_not_have_read_is_not_read_for_an_operator_either(cli: Cli) -> None:
    (cli.folder / "report.pdf").write_bytes(b"%PDF")
    keep = (
        "from dispatcher.bootstrap import AttachmentPaths, build\n"
        "mail = {'subject': 'x', 'text': 'y', 'to': ['a@example.com'], 'attachments': [{'path': 'report.pdf'}]}\n"
        "with build(paths=AttachmentPaths.NOWHERE) as d:\n"
        "    for door in ('task', 'stream'):\n"
        "        assert d.take_in(mail, door=door, reference='1') == 'rejected'\n"
    )
    subprocess.run([sys.executable, "-c", keep], cwd=cli.folder, env=cli.environment, check=True)
    folders = {"DISPATCHER_ATTACHMENTS_DIRS": json.dumps([str(cli.folder)])}
    numbers = [str(reject["id"]) for reject in cli.json("rejects", "list")]
    again = cli("rejects", "resubmit", *numbers, "--yes", **folders)
    assert again.returncode == 1
    assert again.stderr.count("attachments[0].path: a path is not read here") == 2
    assert [str(reject["id"]) for reject in cli.json("rejects", "list")] == numbers
    assert cli.json("messages", "list") == []


# -- templates, relays, doctor


def test_templates_are_checked_and_previewed(cli: Cli) -> None:
    own = cli.folder / "own" / "notice"
    own.mkdir(parents=True)
    (own / "meta.toml").write_text('[sample]\nname = "Ann"\n')
    (own / "subject.txt").write_text("For {{ name }}")
    (own / "body.html").write_text("<p>Hi <b>{{ name }}</b></p>")
    environment = {"DISPATCHER_TEMPLATES_DIR": str(own.parent)}
    assert cli("templates", "check", **environment).returncode == 0
    assert "notice\ten\t" in cli("templates", "list", **environment).stdout
    shown = cli("templates", "preview", "notice", "--part", "html", **environment)
    assert ("<b>Ann</b>" in shown.stdout, shown.stderr) == (True, "Subject: For Ann\n")
    for body, reason in (("<p>{{ nme }}</p>", "nme"), ("<div><b>x</div>", "HTML line 1")):
        (own / "body.html").write_text(body)
        done = cli("templates", "check", "notice", **environment)
        assert done.returncode == 1
        assert reason in done.stdout


def test_a_relay_that_does_not_answer_is_exit_3(cli: Cli) -> None:
    done = cli("relays", "test", DISPATCHER_RELAY_URL="smtp://127.0.0.1:1")
    assert done.returncode == 3
    assert "relay default: " in done.stderr
    assert cli("relays", "test").returncode == 2  # none is configured
    assert cli("relays", "test", "nope", DISPATCHER_RELAY_URL="smtp://127.0.0.1:1").returncode == 2
    assert "default\t127.0.0.1:1 none" in cli("relays", "list", DISPATCHER_RELAY_URL="smtp://127.0.0.1:1").stdout


def test_the_doctor_ends_by_the_worst_that_it_found(cli: Cli) -> None:
    done = cli("doctor")
    assert done.returncode == 1  # nothing runs, and no relay is set
    levels = dict(line.split("\t")[:2] for line in done.stdout.splitlines())
    assert (levels["ledger"], levels["templates"], levels["broker"], levels["relays"]) == ("ok", "ok", "warn", "warn")
    assert cli("doctor", DISPATCHER_RELAY_URL="smtp://127.0.0.1:1").returncode == 2
    bad = cli("doctor", DISPATCHER_RELAY_URL="smpt://127.0.0.1:1")
    assert bad.returncode == 2
    assert "DISPATCHER_RELAY_URL: must begin with" in bad.stdout


def test_there_is_no_broker_url_without_a_stack(cli: Cli) -> None:
    assert cli("broker-url").returncode == 3
    assert cli("broker-url", DISPATCHER_BROKER_URL="redis://:p@h:1/0").stdout == "redis://:p@h:1/0\n"


# -- terminals and pipes


def test_a_reader_that_leaves_early_is_no_error(cli: Cli) -> None:
    cli("submit", cli.lines(*(ORDER for _ in range(400))))
    process = subprocess.Popen(
        [*COMMAND, "messages", "export"], cwd=cli.folder, env=cli.environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    process.wait(20)


def test_tables_have_heads_on_a_terminal_and_tabs_in_a_pipe(cli: Cli) -> None:
    cli("submit", cli.lines(ORDER))
    assert cli("messages", "list").stdout.count("\t") >= 5
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "messages", "list"], cwd=cli.folder, env={**cli.environment, "TERM": "xterm"}, stdout=theirs,
        stderr=theirs, stdin=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:  # Linux says so when the other end is closed
                    break
        os.close(ours)
    assert b"last reply" in seen
    assert "─".encode() in seen


def test_half_a_surrogate_pair_is_rejected_kept_and_the_rest_goes_on(cli: Cli) -> None:
    good = {"to": ["a@example.com"], "subject": "Hi", "text": "x"}
    file = cli.lines({**good, "subject": "\ud800"}, good)
    done = cli("submit", file, "--rejects", "bad.jsonl")
    assert done.returncode == 1
    assert errors(done) == [f"{file}:1: subject: is not UTF-8: it holds half of a surrogate pair"]
    assert "accepted 1 · duplicate 0 · rejected 1" in done.stdout
    assert '"field": "subject"' in (cli.folder / "bad.jsonl").read_text(encoding="utf-8")


def test_rejects_never_overwrite_what_is_submitted(cli: Cli) -> None:
    file = cli.lines({"to": ["a@example.com"], "subject": "Hi", "text": "x"})
    before = (cli.folder / file).read_bytes()
    done = cli("submit", file, "--rejects", file)
    assert done.returncode == 2
    assert "is the file that is submitted" in done.stderr
    assert (cli.folder / file).read_bytes() == before


def test_a_sender_in_the_settings_is_checked_when_they_are_read(cli: Cli) -> None:
    done = cli("status", DISPATCHER_FROM="garbage")
    assert done.returncode == 2
    assert done.stderr.startswith("dispatcher: DISPATCHER_FROM: ")


def test_status_says_that_the_broker_is_out_of_reach(cli: Cli) -> None:
    done = cli("status", DISPATCHER_BROKER_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (done.returncode, "broker: out of reach" in done.stdout) == (3, True)


def test_a_broker_url_with_a_typo_is_one_line_and_exit_2(cli: Cli) -> None:
    done = cli("status", DISPATCHER_BROKER_URL="redis://:secret@localhost:63x9/0")
    assert done.returncode == 2
    assert errors(done) == ["dispatcher: DISPATCHER_BROKER_URL: is not a URL like redis://:password@host:6379/0"]
