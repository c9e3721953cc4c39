"""What an operator does at the command line: stop, go on, publish templates, look at the brakes, act on many mails."""

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from dispatcher.adapters.sql.ledger import SqlLedger
from dispatcher.audience import Column, Kind
from dispatcher.campaign import CampaignSpec, Expanded
from dispatcher.delivery import Lane, State
from tests.commands import ORDER, Cli
from tests.ledgers import ANNA, accepted, add, lease, settle
from tests.zygote import COMMAND

ONE_RELAY = {"DISPATCHER_RELAYS__MAIN__URL": "smtp://127.0.0.1:1"}
TWO_RELAYS = {
    **ONE_RELAY,
    "DISPATCHER_RELAYS__MAIN__PRIORITY": "1",
    "DISPATCHER_RELAYS__BACKUP__URL": "smtp://127.0.0.1:2",
    "DISPATCHER_RELAYS__BACKUP__PRIORITY": "2",
}


@pytest.fixture(autouse=True)
def ledger_file(cli: Cli, sqlite_template: Path) -> None:
    """A ledger that is migrated already."""
    (cli.folder / "var").mkdir(mode=0o700)
    shutil.copy(sqlite_template, cli.folder / "var" / "ledger.db")


def opened(cli: Cli) -> SqlLedger:
    """The ledger that the commands work on."""
    return SqlLedger(f"sqlite:///{cli.folder / 'var' / 'ledger.db'}")


# -- what is in doubt


@pytest.mark.parametrize(
    ("flag", "state", "verb"),
    [
        ("--sent", State.SENT, "count as sent"),
        ("--bounced", State.BOUNCED, "count as bounced"),
        ("--resend", State.QUEUED, "be sent again"),
        ("--drop", State.CANCELLED, "be given up"),
    ],
)
def test_a_person_says_what_became_of_what_is_in_doubt(cli: Cli, flag: str, state: State, verb: str) -> None:
    cli("submit", cli.lines(*({**ORDER, "if_in_doubt": "hold", "idempotency_key": key} for key in "ab")))
    ledger = opened(cli)
    leased = lease(ledger)
    settle(ledger, leased, State.IN_DOUBT)
    assert {record["state"] for record in cli.json("messages", "list", "--state", "in_doubt")} == {"in_doubt"}
    done = cli("messages", "resolve", "a", flag, "--reason", "in the log", "--yes")
    assert (done.returncode, done.stdout) == (0, "1 delivery changed\n")
    assert done.stderr.startswith(f"dispatcher: 1 delivery will {verb}")
    (shown,) = cli.json("messages", "show", "a")
    assert (shown["state"], shown["history"][-1]["text"]) == (state.value, "in the log")
    assert [record["state"] for record in cli.json("messages", "list", "b")] == ["in_doubt"]
    (act,) = cli.json("acts")
    assert (act["act"], act["subject"]) == ("resolve", f"a state=in_doubt as {state.value}")
    ledger.close()


@pytest.mark.parametrize("flags", [(), ("--sent", "--resend"), ("--drop", "--bounced")])
def test_exactly_one_thing_becomes_of_what_is_in_doubt(cli: Cli, flags: tuple[str, ...]) -> None:
    cli("submit", cli.lines({**ORDER, "if_in_doubt": "hold", "idempotency_key": "a"}))
    ledger = opened(cli)
    settle(ledger, lease(ledger), State.IN_DOUBT)
    ledger.close()
    done = cli("messages", "resolve", "a", *flags, "--yes")
    assert done.returncode == 2
    assert all(f"--{name}" in done.stderr for name in ("sent", "bounced", "resend", "drop"))
    assert cli.json("status")["states"] == {"in_doubt": 1}


# -- pause and resume


def test_a_relay_is_paused_for_a_time_and_the_next_one_takes_over(cli: Cli) -> None:
    cli.environment |= TWO_RELAYS
    cli("submit", cli.lines(ORDER, {**ORDER, "relay": "main"}, {**ORDER, "relay": "main", "lane": "bulk"}))
    done = cli("pause", "main", "--for", "2h", "--reason", "certificate renewed")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert re.fullmatch(
        r"relay main is paused until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(2\.0 h\); 2 deliveries that ask for it wait",
        first,
    )
    assert second == "mail that names no relay goes over backup"
    relay = cli.json("status")["relays"]["main"]
    assert (relay["state"], relay["paused"], relay["reason"]) == ("paused", *["certificate renewed"] * 2)
    assert relay["until"] == pytest.approx(time.time() + 7200, abs=60)
    assert "@" in relay["actor"]
    assert cli.json("status")["relays"]["backup"]["state"] == "ok"


def test_when_the_only_relay_is_paused_all_mail_waits(cli: Cli) -> None:
    cli.environment |= TWO_RELAYS
    assert "goes over main" in cli("pause", "backup").stdout
    paused = cli("pause", "main")
    assert paused.stdout == (
        "relay main is paused until it is resumed; 0 deliveries that ask for it wait\n"
        "mail that names no relay waits: no other relay is open\n"
    )
    assert cli.json("pause", "main")["next_relay"] is None


@pytest.mark.parametrize(("name", "kind"), [("bulk", "lane"), ("mail.bulk", "lane"), ("k", "submission")])
def test_what_is_paused_is_not_leased_until_it_is_resumed(cli: Cli, name: str, kind: str) -> None:
    cli("submit", cli.lines({**ORDER, "lane": "bulk", "idempotency_key": "k"}))
    paused = cli.json("pause", name, "--reason", "wrong price")
    assert (paused["kind"], paused["waiting"], paused["until"], paused["reason"]) == (kind, 1, None, "wrong price")
    ledger = opened(cli)
    assert not lease(ledger, Lane.BULK).messages
    again = cli("resume", name)
    assert (again.returncode, again.stdout) == (
        0,
        f"{kind} {paused['name']} is resumed; 1 delivery goes out when due\n",
    )
    assert lease(ledger, Lane.BULK).messages
    ledger.close()
    nothing = cli("resume", name)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr == f"dispatcher: {kind} {paused['name']} was not paused; nothing was changed\n"


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize("begun", [False, True])
def test_the_mail_of_a_campaign_is_held_by_its_campaign_until_that_is_over(
    cli: Cli, command: str, *, begun: bool
) -> None:
    ledger = opened(cli)
    audience = ledger.audiences.begin("people", "people.csv", [Column("email", Kind.ADDRESS, "Mail")], ANNA)
    ledger.audiences.ready(audience.id, ANNA)
    draft = ledger.campaigns.create("spring", CampaignSpec("newsletter", "people", "news"), ANNA)
    checked = ledger.campaigns.check(draft, audience.id, {"ok": True, "template": "0" * 64}, ANNA)
    shared = replace(accepted(lane="bulk", list="news"), messages=())
    campaign = ledger.campaigns.start(checked, shared, None, ANNA)
    name = campaign.submission or ""
    if begun:
        row = Expanded(2, "p2@example.com", "p2@example.com", '{"to": ["p2@example.com"]}', campaign.created_at)
        assert ledger.campaigns.expand(campaign, 2, [row], filtered=0, complete=True)
    ledger.campaigns.act("spring", "pause", ANNA)
    done = cli(command, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"dispatcher: {name}: is the mail of campaign spring, so use `dispatcher campaigns {command} spring`\n"
    )
    assert [(pause.kind, pause.name) for pause in ledger.pauses()] == [("submission", name)]
    ledger.campaigns.act("spring", "cancel", ANNA)
    ledger.close()
    over = cli(command, name)
    assert (over.returncode == 2) is not begun  # then there is nothing to hold


def test_what_is_with_a_worker_is_said_to_be(cli: Cli) -> None:
    cli("submit", cli.lines({**ORDER, "lane": "bulk"}, {**ORDER, "lane": "bulk"}))
    ledger = opened(cli)
    lease(ledger, Lane.BULK, limit=1)
    ledger.close()
    assert cli("pause", "bulk").stdout == (
        "lane bulk is paused until it is resumed; 1 delivery waits\n1 delivery is with a worker at this moment\n"
    )


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize(
    ("name", "hint"), [("mian", "did you mean main?"), ("blk", "did you mean bulk"), ("?", "main")]
)
def test_an_unknown_name_is_one_line_with_what_is_near(cli: Cli, command: str, name: str, hint: str) -> None:
    done = cli(command, name, **ONE_RELAY)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"dispatcher: {name!r} is no relay, no lane, and no id or key of a submission; "), line
    assert hint in line
    assert cli.json("acts") == []


@pytest.mark.parametrize("length", ["0", "0s", "-1h", "soon", "5000d"])
def test_a_pause_has_a_length_that_can_be(cli: Cli, length: str) -> None:
    done = cli("pause", "bulk", "--for", length)
    assert done.returncode == 2
    assert "--for" in done.stderr
    assert cli.json("status")["pauses"] == []


def test_a_relay_that_is_in_the_settings_no_more_can_be_resumed(cli: Cli) -> None:
    assert cli("pause", "main", **ONE_RELAY).returncode == 0
    assert cli("resume", "main").returncode == 0


def test_a_key_of_two_producers_names_none_of_their_submissions(cli: Cli) -> None:
    cli("submit", cli.lines({**ORDER, "idempotency_key": "k"}))
    ledger = opened(cli)
    add(ledger, accepted(key="k", producer="erp"))
    ledger.close()
    done = cli("pause", "k")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dispatcher: k: is the key of several submissions; see `dispatcher messages list k`\n"


def test_acts_say_who_did_what_and_why(cli: Cli) -> None:
    cli("submit", cli.lines({**ORDER, "tags": ["t"]}))
    cli("pause", "bulk", "--for", "1h", "--reason", "wrong price")
    cli("resume", "bulk", "--reason", "right again")
    cli("messages", "cancel", "--tag", "t", "--yes")
    found = cli.json("acts", "--since", "1h")
    assert [(act["act"], act["subject"], act["count"], act["reason"]) for act in found[1:]] == [
        ("resume", "lane bulk", 1, "right again"),
        ("pause", "lane bulk", 1, "wrong price"),
    ]
    assert (found[0]["act"], found[0]["count"]) == ("cancel", 1)
    assert len(cli("acts", "--limit", "2").stdout.splitlines()) == 2
    assert cli.json("acts", "--since", "2099-01-01T00:00Z") == []


# -- templates


@pytest.fixture
def notice(cli: Cli) -> Path:
    """A template of the operator's own, which is all that is looked at here."""
    folder = cli.folder / "own" / "notice"
    folder.mkdir(parents=True)
    (folder / "meta.toml").write_text('[schema]\nrequired = ["name"]\n[sample]\nname = "Ann"\n')
    (folder / "subject.txt").write_text("For {{ name }}")
    (folder / "body.txt").write_text("first")
    cli.environment["DISPATCHER_TEMPLATES_DIR"] = str(folder.parent)
    return folder


def facts(cli: Cli, name: str = "notice") -> dict[str, object]:
    """What the list says about one template."""
    (found,) = (each for each in cli.json("templates", "list") if each["name"] == name)
    return dict(found)


def test_publishing_says_what_changes_and_asks_first(cli: Cli, notice: Path) -> None:
    digest = str(facts(cli)["digest"])[:12]
    refused = cli("templates", "publish", "notice")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == [
        f"dispatcher: notice: not published -> {digest}",
        "dispatcher: 1 template will be published for all new mail; nobody is here to be asked, so add --yes",
    ]
    assert facts(cli)["published"] is None
    done = cli("templates", "publish", "notice", "--reason", "first go", "--yes")
    assert (done.returncode, done.stdout) == (0, f"notice\t{digest}\t\n")
    assert (facts(cli)["differs"], facts(cli, "welcome")["published"]) == (False, None)
    (act,) = cli.json("acts")
    assert (act["act"], act["reason"]) == ("publish", "first go")
    assert act["subject"].startswith("notice")
    (notice / "body.txt").write_text("second")
    assert facts(cli)["differs"] is True
    newer = str(facts(cli)["digest"])[:12]
    assert f"notice: {digest} -> {newer}" in cli("templates", "publish", "--yes").stderr
    assert all(each["published"] for each in cli.json("templates", "list"))


def test_publishing_what_is_published_does_nothing(cli: Cli, notice: Path) -> None:
    assert notice.is_dir()
    assert cli("templates", "publish", "--yes").returncode == 0
    acts = cli.json("acts")
    again = cli("templates", "publish")
    assert (again.returncode, again.stdout) == (0, "nothing to publish: 13 templates as published already\n")
    assert cli.json("templates", "publish") == {"published": []}
    assert cli.json("acts") == acts


def test_of_broken_templates_nothing_is_published(cli: Cli, notice: Path) -> None:
    (notice / "body.txt").write_text("{{ nobody }}")
    done = cli("templates", "publish", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "dispatcher: notice (en): notice/body.txt:1: 'nobody' is undefined",
        "dispatcher: nothing was published",
    ]
    (notice / "body.txt").write_bytes(b"\xff")
    unreadable = cli("templates", "publish", "--yes")
    assert unreadable.returncode == 1
    assert "notice/body.txt" in unreadable.stderr
    assert all(each["published"] is None for each in cli.json("templates", "list"))
    unknown = cli("templates", "publish", "notic", "--yes")
    assert unknown.returncode == 2
    assert "did you mean notice?" in unknown.stderr


def test_one_broken_template_does_not_hide_the_others(cli: Cli, notice: Path) -> None:
    (notice / "meta.toml").write_text("[schema")
    assert str(facts(cli)["error"]).startswith("notice/meta.toml")
    listed = cli("templates", "list")
    assert listed.returncode == 0
    assert "notice\t\tbroken\t" in listed.stdout
    assert "welcome\ten, zh\t" in listed.stdout


def test_an_older_version_is_published_again_by_the_start_of_its_digest(cli: Cli, notice: Path) -> None:
    cli("templates", "publish", "notice", "--yes")
    (notice / "body.txt").write_text("second")
    cli("templates", "publish", "notice", "--yes")
    newer, older = cli.json("templates", "versions", "notice")
    assert (newer["published"], newer["here"], older["published"], older["here"]) == (True, True, False, False)
    done = cli("templates", "publish", "--version", older["digest"][:8], "notice", "--yes", "--reason", "typo")
    assert done.returncode == 0, done.stderr
    assert [each["published"] for each in cli.json("templates", "versions", "notice")] == [False, True]
    assert facts(cli)["differs"] is True
    for wrong, reason in (("x", "no version of notice that is kept begins with 'x'"), ("", "more than one version")):
        missing = cli("templates", "publish", "--version", wrong, "notice", "--yes")
        assert missing.returncode == 2
        assert reason in missing.stderr
    assert cli("templates", "publish", "--version", older["digest"], "--yes").returncode == 2  # of which template?
    assert cli("templates", "versions", "notic").returncode == 2


def test_new_mail_is_rendered_as_published_on_a_server_whose_folder_differs(cli: Cli, notice: Path) -> None:
    mail = ("send", "--to", "a@example.com", "--template", "notice", "--data", '{"name": "Ann"}')
    cli("templates", "publish", "notice", "--yes")
    (notice / "body.txt").write_text("second")
    assert cli(*mail, "--idempotency-key", "1").returncode == 0
    assert "first" in cli("messages", "show", "1", "--raw").stdout
    other = {"DISPATCHER_TEMPLATES_DIR": str(cli.folder)}  # a server that has no such template at all
    assert cli(*mail, "--idempotency-key", "2", **other).returncode == 0
    assert "first" in cli("messages", "show", "2", "--raw").stdout
    (found,) = (each for each in json.loads(cli("templates", "list", "--json", **other).stdout) if each["published"])
    assert (found["name"], found["digest"], found["differs"]) == ("notice", None, True)


def test_of_two_who_publish_the_same_at_once_one_does(cli: Cli, notice: Path) -> None:
    assert notice.is_dir()
    command = [*COMMAND, "templates", "publish", "notice", "--yes", "--json"]
    both = [
        subprocess.Popen(command, cwd=cli.folder, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(answer["published"]) for answer in answers) == [0, 1]
    assert [act["act"] for act in cli.json("acts")] == ["publish"]


def test_templates_are_listed_while_the_ledger_is_away(cli: Cli) -> None:
    done = cli("templates", "list", DISPATCHER_LEDGER_URL="postgresql+psycopg://u:hunter2@127.0.0.1:1/x")
    assert done.returncode == 0
    assert "welcome\t" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("dispatcher: what is published is not known: ")
    assert "hunter2" not in line


# -- many mails


def test_what_lost_its_sensitive_data_is_not_tried_again(cli: Cli) -> None:
    data = json.dumps({"customer": {"name": "A"}, "reset_url": "https://shop.example/r", "expires_minutes": 30})
    reset = ("--template", "password_reset", "--data", data)
    for key, what in (("r", reset), ("w", ("--subject", "Hi", "--text", "x"))):
        cli("send", "--to", "a@example.com", *what, "--idempotency-key", key)
    ledger = opened(cli)
    settle(ledger, lease(ledger), State.BOUNCED)
    ledger.close()
    done = cli("messages", "retry", "--state", "bounced", "--yes")
    assert (done.returncode, done.stdout) == (1, "1 delivery changed\n")
    assert "1 delivery cannot be tried again: what was x-sensitive in their data was wiped" in done.stderr
    assert cli.json("messages", "show", "r")[0]["state"] == "bounced"
    assert json.loads(cli("messages", "retry", "r", "--yes", "--json").stdout) == {
        "expected": 0, "changed": 0, "wiped": 1,
    }  # fmt: skip


def test_thousands_are_cancelled_by_one_act(cli: Cli) -> None:
    recipients = [{"to": f"{n}@example.com"} for n in range(2500)]
    mail = {"subject": "Hi", "text": "x", "lane": "bulk", "recipients": recipients}
    assert cli("submit", cli.lines(mail)).returncode == 0
    done = cli("messages", "cancel", "--lane", "bulk", "--yes", "--reason", "wrong price")
    assert (done.returncode, done.stdout) == (0, "2,500 deliveries changed\n")
    (act,) = cli.json("acts")
    assert (act["act"], act["count"], act["reason"]) == ("cancel", 2500, "wrong price")


# -- status


def test_status_shows_brakes_ticks_and_heads_in_a_pipe(cli: Cli) -> None:
    cli.environment |= TWO_RELAYS
    cli("submit", cli.lines({**ORDER, "lane": "bulk", "idempotency_key": "k"}))
    cli("pause", "main", "--reason", "renewal")
    cli("pause", "bulk", "--for", "1h", "--reason", "wrong price")
    cli("pause", "k")
    ledger = opened(cli)
    ledger.pause("relay", "backup", 5, "rate: 450 4.7.0 slow down")
    ledger.tick("beat", 1)
    ledger.close()
    shown = cli("status").stdout
    assert re.search(r"broker: none · beat: \d\.\d s ago · sweep: never", shown)
    assert "\nrelay\twhere\tstate\trate\tconnections\nmain\t127.0.0.1:1 none\tpaused\t" in shown
    assert "\npaused\tname\tuntil\tby\twhy\nrelay\tmain\tit is resumed\t" in shown
    assert re.search(r"\nrelay\tbackup\t[\d: -]+\titself\trate: 450 4.7.0 slow down\n", shown)
    assert re.search(r"\nlane\tbulk\t[\d: -]+\t\S+@\S+\twrong price\n", shown)
    assert re.search(r"\nsubmission\t[a-z2-7]{16}\tit is resumed\t\S+@\S+\t\n", shown)
    found = cli.json("status")
    assert found["lanes"]["bulk"]["paused"] == "wrong price"
    assert found["lanes"]["transactional"]["paused"] is None
    assert found["beat_seconds_ago"] >= 0
    assert (found["sweep_seconds_ago"], found["stream"]) == (None, None)
    assert (found["relays"]["backup"]["actor"], found["relays"]["backup"]["rate"]) == (None, None)


@pytest.mark.server
def test_status_shows_limits_and_what_waits_on_the_stream(cli: Cli, redis_url: str) -> None:
    cli.environment |= {
        **ONE_RELAY,
        "DISPATCHER_BROKER_URL": redis_url,
        "DISPATCHER_RELAYS__MAIN__RATE": '["14/s", "500/min"]',
        "DISPATCHER_RELAYS__MAIN__MAX_CONNECTIONS": "5",
    }
    with Redis.from_url(redis_url) as redis:
        redis.xadd("mail:submissions", {"submission": "{}"})
    found = cli.json("status")
    assert found["stream"] == 1
    assert found["relays"]["main"]["state"] == "ok"
    assert found["relays"]["main"]["rate"] == [{"window": "14/s", "used": 0}, {"window": "500/min", "used": 0}]
    assert found["relays"]["main"]["connections"] == {"open": 0, "max": 5, "learned": False}
    shown = cli("status").stdout
    assert "handed over: 1 waiting" in shown
    assert "\t0 of 14/s; 0 of 500/min\t0 of 5\n" in shown


def test_status_answers_while_redis_is_away(cli: Cli) -> None:
    cli.environment |= {**ONE_RELAY, "DISPATCHER_BROKER_URL": "redis://127.0.0.1:1/0"}
    done = cli("status", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["broker"], found["stream"]) == (3, "out of reach", None)
    assert (found["relays"]["main"]["rate"], found["relays"]["main"]["connections"]) == (None, None)
