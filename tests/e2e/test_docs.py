"""The documents cannot lie: their Python runs, their settings load, their commands and links exist."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dispatcher.adapters.stack import Stack
from dispatcher.servers.sink import Sink
from dispatcher.sources import load
from tests.waiting import wait_for
from tests.zygote import clean, zygote

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:dispatcher|\$ docker compose run --rm cli) (.*)")
_LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def blocks(path: Path, language: str) -> list[str]:
    return [body for found, body in _BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def commands() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        for body in (*blocks(path, "sh"), *blocks(path, "console")):
            for line in body.splitlines():
                if found := _COMMAND.match(line):
                    yield path.name, f"dispatcher {found[1]}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    gone = [link for link in _LINK.findall(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert gone == []


@cache
def helped(*names: str) -> subprocess.CompletedProcess[str]:
    """What a command says of itself."""
    return zygote().run([*names, "--help"], clean(COLUMNS="200"))


@pytest.mark.parametrize(("document", "line"), list(commands()))
def test_every_command_exists_with_its_options(document: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    names = [word for word in words[:2] if re.fullmatch(r"[a-z-]+", word)]
    done = helped(*names)
    if done.returncode:  # the second word was an argument
        done = helped(names[0])
    assert done.returncode == 0, f"{document}: {line}"
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert option in done.stdout, f"{document}: {line}: no {option}"


def test_the_settings_page_loads_as_it_stands(tmp_path: Path) -> None:
    path, found = tmp_path / "dispatcher.toml", []
    for body in blocks(ROOT / "docs" / "settings.md", "toml"):
        path.write_text(body, encoding="utf-8")
        found.append(load({"DISPATCHER_CONFIG": str(path)}))
    assert list(found[1].relay_table()) == ["main", "backup"]


def test_the_settings_page_shows_the_defaults() -> None:
    shown = tomllib.loads(blocks(ROOT / "docs" / "settings.md", "toml")[0])
    defaults = load({})
    for section in ("delivery", "retry", "log", "pages"):
        assert load({}, **{section: shown[section]}) == defaults


def test_the_python_of_the_page_about_consent_runs(tmp_path: Path) -> None:
    (body,) = blocks(ROOT / "docs" / "consent.md", "python")
    environment = os.environ | {"DISPATCHER_DATA_DIR": str(tmp_path / "var")}
    subprocess.run([sys.executable, "-c", body], check=True, capture_output=True, env=environment, cwd=tmp_path)


@pytest.mark.slow
def test_the_readmes_python_delivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink:
        environment = {
            "DISPATCHER_DATA_DIR": str(tmp_path / "var"),
            "DISPATCHER_RELAY_URL": sink.url,
            "DISPATCHER_FROM": "Shop <shop@example.com>",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with Stack(environment) as stack:
            broker_url = stack.run("broker-url").stdout.strip()
            for body in blocks(ROOT / "README.md", "python"):
                script = f"broker_url = {broker_url!r}\n{body}"
                subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
            wait_for(lambda: len(sink.received()) == 2, 30)
            assert {r.rcpt_to[0] for r in sink.received()} == {"li@example.com", "ada@example.com"}
