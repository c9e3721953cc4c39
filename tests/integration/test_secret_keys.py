"""The key that is made on first run: one, whole, private, whoever asks first."""

import stat
import threading
from pathlib import Path

import pytest

from dispatcher.adapters.secret_keys import secret_keys
from dispatcher.errors import ConfigurationError
from dispatcher.settings import Settings
from dispatcher.sources import load


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load({}, data_dir=tmp_path)


def test_one_is_made_and_stays(settings: Settings, tmp_path: Path) -> None:
    made = secret_keys(settings)
    assert len(made) == 1
    assert len(made[0]) >= 40
    assert secret_keys(settings) == made
    assert [path.name for path in tmp_path.iterdir()] == ["secret_keys"]
    assert stat.S_IMODE((tmp_path / "secret_keys").stat().st_mode) == 0o600


def test_of_many_who_come_first_one_makes_it(settings: Settings, tmp_path: Path) -> None:
    found: list[tuple[str, ...]] = []
    together = threading.Barrier(16)

    def ask() -> None:
        together.wait()
        found.append(secret_keys(settings))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret_keys"]


def test_those_of_the_settings_go_first_and_none_is_made(tmp_path: Path) -> None:
    settings = load({"DISPATCHER_SECRET_KEYS": f"{'a' * 16},{'b' * 16},{'a' * 16}"}, data_dir=tmp_path)
    assert secret_keys(settings) == ("a" * 16, "b" * 16)
    assert list(tmp_path.iterdir()) == []


def test_a_person_may_put_another_key_before_it(settings: Settings, tmp_path: Path) -> None:
    (old,) = secret_keys(settings)
    (tmp_path / "secret_keys").write_text(f"{'n' * 32}\n{old}\n", encoding="utf-8")
    assert secret_keys(settings) == ("n" * 32, old)


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n", b"\xff\xfe" * 20])
def test_a_file_that_holds_no_key_is_refused(settings: Settings, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret_keys").write_bytes(content)
    with pytest.raises(ConfigurationError, match="secret_keys"):
        secret_keys(settings)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        secret_keys(load({}, data_dir=tmp_path / "missing"))
