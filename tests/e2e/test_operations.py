"""docs/operations.md and docs/systemd: the units are valid and start what `dispatcher up` starts, the Postfix
configuration is one, the settings load, and the services that it names exist."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.cli import programs
from dispatcher.relay import Relay
from dispatcher.settings import Settings
from dispatcher.sources import load
from tests.compose import ROOT, compose
from tests.e2e.test_docs import blocks
from tests.servers import require

PAGE = ROOT / "docs" / "operations.md"
UNITS = ROOT / "docs" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
_LISTED = ("Environment", "EnvironmentFile", "SystemCallFilter")  # settings that may come more than once


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Sections, settings, values. A setting twice is an error unless systemd makes a list of it."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert name not in section or name in _LISTED, f"{path.name}: {name} twice"
            section.setdefault(name, []).append(value)
    return found


def environment(path: Path) -> dict[str, str]:
    words = [word for value in unit(path)["Service"].get("Environment", []) for word in shlex.split(value)]
    return dict(word.split("=", 1) for word in words)


def command(path: Path, instance: str, values: dict[str, str]) -> list[str]:
    """What systemd runs."""
    (line,) = unit(path)["Service"]["ExecStart"]
    line = line.replace("%%", "%\0").replace("%i", instance).replace("%\0", "%")
    return shlex.split(re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], line))


def expected(program: programs.Program) -> list[str]:
    words = ["dispatcher.tasks" if word == "tasks" else word for word in program.command[1:]]
    return ["/opt/dispatcher/bin/python", *words]


# -- systemd


@pytest.mark.server
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = require("systemd-analyze")
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for name in SERVICES:  # it looks whether the program is there
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("/opt/dispatcher/bin/python", sys.executable))
    template = folder / "dispatcher-worker@.service"
    for name in ("bulk", "intake"):
        shutil.copy(template, folder / f"dispatcher-worker@{name}.service")
    template.unlink()
    checked = [str(path) for path in sorted(folder.iterdir()) if path.suffix in (".service", ".target")]

    def verify() -> subprocess.CompletedProcess[str]:
        return subprocess.run([analyze, "verify", "--man=no", *checked], capture_output=True, text=True, check=False)

    done = verify()
    assert (done.returncode, done.stderr) == (0, "")
    for name in SERVICES:
        path = folder / name.replace("@.", "@bulk.")
        rated = subprocess.run(
            [analyze, "security", "--offline=true", "--threshold=20", str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert rated.returncode == 0, f"{name}: {rated.stdout[-200:]}"
    broken = folder / "dispatcher-beat.service"
    broken.write_text(broken.read_text().replace("ProtectSystem=strict", "ProtectSistem=strict"))
    assert "ProtectSistem" in verify().stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_hardened_restarts_and_drains(name: str) -> None:
    service = unit(UNITS / name)["Service"]
    wanted = {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "Restart": "always", "RestartSec": "2", "KillMode": "mixed", "KillSignal": "SIGTERM", "User": "dispatcher",
    }  # fmt: skip
    assert {setting: service[setting] for setting in wanted} == {k: [v] for k, v in wanted.items()}
    folder = environment(UNITS / name)["DISPATCHER_DATA_DIR"]
    assert [folder] == [f"/var/lib/{state}" for state in service["StateDirectory"]] == service["WorkingDirectory"]
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.read(UNITS / name)
    assert parser.sections() == ["Unit", "Service", "Install"]


def test_the_units_run_what_dispatcher_up_runs() -> None:
    found = load({"DISPATCHER_DATA_DIR": "/var/lib/dispatcher/beat"})
    template = UNITS / "dispatcher-worker@.service"
    values = environment(template)
    for program in programs.workers(found):
        given = {name: value.replace("%i", program.name) for name, value in values.items()}
        if (dropped := UNITS / f"dispatcher-worker@{program.name}.service.d" / "queues.conf").exists():
            given |= environment(dropped)
        assert command(template, program.name, given) == expected(program)
    assert command(UNITS / "dispatcher-beat.service", "", {}) == expected(programs.beat(found))
    assert command(UNITS / "dispatcher-flower.service", "", {}) == expected(programs.flower(found, 5555))
    pages = command(UNITS / "dispatcher-pages.service", "", {})
    assert pages == ["/opt/dispatcher/bin/python", "-m", "dispatcher.cli", *programs.pages().command[3:4]]


def test_a_workers_unit_leaves_it_the_time_to_end() -> None:
    drain = max(program.grace for program in programs.workers(load({})))
    assert float(unit(UNITS / "dispatcher-worker@.service")["Service"]["TimeoutStopSec"][0]) > drain


def test_the_units_settings_are_settings(tmp_path: Path) -> None:
    lines = [line for line in (UNITS / "dispatcher.env").read_text().splitlines() if not line.startswith("#")]
    given = dict(shlex.split(line)[0].split("=", 1) for line in lines if line)
    config = tmp_path / "dispatcher.toml"
    config.write_text("")
    assert load(given | {"DISPATCHER_CONFIG": str(config)}).sender == "Shop <shop@example.com>"


def test_the_page_installs_the_units_that_there_are() -> None:
    named = set(re.findall(r"dispatcher-(?:worker@|beat|pages|flower)", PAGE.read_text()))
    assert named == {name.removesuffix(".service") for name in SERVICES}


# -- Postfix


@pytest.mark.server
def test_postfix_takes_the_page_configuration(tmp_path: Path) -> None:
    postconf = require("postconf", "/usr/sbin")
    (main,) = blocks(PAGE, "postfix")
    folder = tmp_path / "postfix"
    folder.mkdir()
    (folder / "master.cf").write_text(
        "smtp inet n - y - - smtpd\nsmtp unix - - y - - smtp\nanvil unix - - y - 1 anvil\n"
    )

    def shown(text: str) -> tuple[dict[str, str], str]:
        (folder / "main.cf").write_text(text)
        done = subprocess.run([postconf, "-c", str(folder), "-n"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(re.findall(r"^(\w+) =[ ]?(.*)$", done.stdout, re.MULTILINE)), done.stderr

    values, warnings = shown(main)
    assert warnings == ""
    assert values["relayhost"] == "[smtp.provider.example]:587"
    assert len(values.keys() - {"config_directory"}) == len(
        [line for line in main.splitlines() if line and not line.startswith("#")]
    )
    assert "smtp_tls_securty_level" in shown(main.replace("smtp_tls_security", "smtp_tls_securty"))[1]


@pytest.mark.server
def test_postfix_finds_the_account_where_the_page_keeps_it(tmp_path: Path) -> None:
    postmap = require("postmap", "/usr/sbin")
    (main,) = blocks(PAGE, "postfix")
    (tmp_path / "master.cf").touch()
    account = tmp_path / "sasl_passwd"
    account.write_text(re.findall(r"`(\[smtp\.provider\.example\]:587 \S+)`", PAGE.read_text())[0] + "\n")
    (tmp_path / "main.cf").write_text(main.replace("/etc/postfix/", f"{tmp_path}/"))
    looked_up = [postmap, "-c", str(tmp_path), "-q", "[smtp.provider.example]:587", f"texthash:{account}"]
    done = subprocess.run(looked_up, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "user:password\n", "")


# -- the settings and the services that the page names


def settings(tmp_path: Path, mark: str, **environment: str) -> Settings:
    (body,) = [body for body in blocks(PAGE, "toml") if mark in body]
    path = tmp_path / "dispatcher.toml"
    path.write_text(body, encoding="utf-8")
    return load({"DISPATCHER_CONFIG": str(path), **environment})


@pytest.fixture
def relays(tmp_path: Path) -> dict[str, Relay]:
    return settings(tmp_path, "[relays.postfix]", DISPATCHER_RELAYS__PROVIDER__PASSWORD="x").relay_table()


def test_the_pages_settings_load(tmp_path: Path, relays: dict[str, Relay]) -> None:
    found = settings(tmp_path, "[broker]", DISPATCHER_BROKER_URL="sentinel://mail1:26379")
    assert found.broker.sentinel_master == "mail"
    assert list(relays) == ["postfix", "provider"]
    assert (relays["postfix"].port, relays["postfix"].tls) == (25, "starttls")


def test_our_relays_stay_below_what_postfix_allows(relays: dict[str, Relay]) -> None:
    (main,) = blocks(PAGE, "postfix")
    allowed = dict(re.findall(r"^(\w+) = (.*)$", main, re.MULTILINE))
    relay = relays["postfix"]
    assert relay.max_connections is not None
    assert relay.max_connections <= 3 * int(allowed["smtpd_client_connection_count_limit"])  # for each mail server
    (window,) = relay.rate.windows
    assert (window.seconds, allowed["anvil_rate_time_unit"]) == (60, "60s")
    assert window.limit < int(allowed["smtpd_client_message_rate_limit"])
    assert int(allowed["message_size_limit"]) > load({}).max_message_bytes * 4 / 3


def test_the_urls_of_the_table_of_secrets_load() -> None:
    urls = re.findall(r"^\| `(\w+_url)`.*?`(\w[\w+]*://[^`]+)` \|$", PAGE.read_text(), re.MULTILINE)
    given = {f"DISPATCHER_{name.upper()}": url for name, url in urls}
    assert set(given) == {"DISPATCHER_BROKER_URL", "DISPATCHER_LEDGER_URL"}
    found = load(given | {"DISPATCHER_BROKER__SENTINEL_MASTER": "mail"})
    assert found.ledger.startswith("postgresql+psycopg://")


def test_the_page_names_services_that_there_are(tmp_path: Path) -> None:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / ".env").write_text("SECRETS_GROUP=1\n")
    known = set(compose(tmp_path, "--profile", "*", "config", "--services").stdout.split())
    lines = [line for body in blocks(PAGE, "console") for line in body.splitlines() if "docker compose" in line]
    named = {word for line in lines for word in shlex.split(line, comments=True) if word in known}
    assert named == {"cli", "migrate", "transactional", "bulk", "intake", "beat"}
    assert {"sink", "flower"} <= known
