"""Settings: where they come from, what wins, and what is refused, naming the setting and never a secret."""

from pathlib import Path

import pytest

from dispatcher.duration import seconds
from dispatcher.errors import ConfigurationError
from dispatcher.settings import Settings
from dispatcher.sources import load


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No dispatcher.toml of the folder that the tests run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml(folder: Path, text: str) -> dict[str, str]:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return {"DISPATCHER_CONFIG": str(path)}


def refused(environment: dict[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(environment)
    return caught.value


def test_without_any_setting_the_defaults_hold(elsewhere: Path) -> None:
    settings = load({})
    assert settings.data_dir == Path("var")
    assert settings.ledger == f"sqlite:///{elsewhere / 'var' / 'ledger.db'}"
    assert settings.blobs == elsewhere / "var" / "blobs"
    assert settings.relay_table() == {}
    assert settings.retry.schedule[:2] == (60, 300)


def test_the_environment_goes_over_secret_files_and_those_over_the_file(elsewhere: Path) -> None:
    secrets = elsewhere / "secrets"
    secrets.mkdir()
    (secrets / "DISPATCHER_FROM").write_text("secret@example.com\n", encoding="utf-8")
    (secrets / "data_dir").write_text("by-secret", encoding="utf-8")
    environment = toml(elsewhere, 'from = "file@example.com"\ndata_dir = "by-file"\nmail_from = "file@example.com"')
    environment |= {"DISPATCHER_SECRETS_DIR": str(secrets), "DISPATCHER_FROM": "env@example.com"}
    settings = load(environment)
    assert settings.sender == "env@example.com"
    assert settings.data_dir == Path("by-secret")
    assert settings.mail_from == "file@example.com"


def test_an_override_goes_over_everything() -> None:
    assert load({"DISPATCHER_DATA_DIR": "a"}, data_dir="b").data_dir == Path("b")


def test_nested_settings_are_reached_by_two_underscores_and_lists_are_json() -> None:
    settings = load({
        "DISPATCHER_DELIVERY__LEASE_SECONDS": "10m",
        "DISPATCHER_RETRY__SCHEDULE": '["1s", "2s"]',
        "DISPATCHER_RETRY__LIFETIME__BULK": "2d",
    })  # fmt: skip
    assert settings.delivery.lease_seconds == 600
    assert settings.delivery.batch_size == 100
    assert settings.retry.schedule == (1, 2)
    assert settings.retry.lifetime.bulk == 2 * 86400


@pytest.mark.parametrize(
    ("text", "length"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("3d", 259200), ("200ms", 0.2), (7, 7)],
)
def test_a_duration_is_read_with_its_unit(text: str | int, length: float) -> None:
    assert seconds(text) == pytest.approx(length)


@pytest.mark.parametrize("text", ["", "s", "5 weeks", "-5s", "1m30s", "٣s!"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("name", "value", "setting", "reason"),
    [
        ("DISPATCHER_DATADIR", "x", "DISPATCHER_DATADIR", "unknown setting"),
        ("DISPATCHER_DELIVERY__BATCHSIZE", "5", "DISPATCHER_DELIVERY__BATCHSIZE", "unknown setting"),
        ("DISPATCHER_DELIVERY__BATCH_SIZE", "0", "DISPATCHER_DELIVERY__BATCH_SIZE", "greater than 0"),
        ("DISPATCHER_DELIVERY__BATCH_SECONDS", "soon", "DISPATCHER_DELIVERY__BATCH_SECONDS", "no duration"),
        ("DISPATCHER_LOG__FORMAT", "xml", "DISPATCHER_LOG__FORMAT", "'text' or 'json'"),
        ("DISPATCHER_RETENTION__DEFAULT", "soon", "DISPATCHER_RETENTION__DEFAULT", "no duration"),
        ("DISPATCHER_PUBLIC_URL", "mail.example.com", "DISPATCHER_PUBLIC_URL", "no address such as https://"),
        ("DISPATCHER_PUBLIC_URL", "https://x/?a=b", "DISPATCHER_PUBLIC_URL", "no address such as https://"),
        ("DISPATCHER_PUBLIC_URL", f"https://{'x' * 200}", "DISPATCHER_PUBLIC_URL", "up to 200 characters"),
        ("DISPATCHER_SECRET_KEYS", "short", "DISPATCHER_SECRET_KEYS", "at least 16 characters"),
        ("DISPATCHER_SECRET_KEYS", f"{'k' * 16},short", "DISPATCHER_SECRET_KEYS", "at least 16 characters"),
        ("DISPATCHER_SECRET_KEYS", f'["{"k" * 16}"', "DISPATCHER_SECRET_KEYS", "begins like a JSON list"),
        ("DISPATCHER_PAGES__LISTEN", "8026", "DISPATCHER_PAGES__LISTEN", "no address to listen on"),
        ("DISPATCHER_PAGES__LISTEN", "127.0.0.1:70000", "DISPATCHER_PAGES__LISTEN", "no address to listen on"),
        ("DISPATCHER_BROKER_URL", "amqp://x", "DISPATCHER_BROKER_URL", "unknown scheme 'amqp'"),
        ("DISPATCHER_LEDGER_URL", "mysql://x", "DISPATCHER_LEDGER_URL", "unknown scheme 'mysql'"),
        ("DISPATCHER_LEDGER_URL", "postgresql+psycopg://u:gehe@im@h/d", "DISPATCHER_LEDGER_URL", "write it as %40"),
        ("DISPATCHER_RELAY_URL", "", "DISPATCHER_RELAY_URL", "is empty"),
        ("DISPATCHER_BLOBS_URL", "s3://x", "DISPATCHER_BLOBS_URL", "ledger: or file:FOLDER"),
        ("DISPATCHER_RELAY_URL", "smpt://mail.example.com", "DISPATCHER_RELAY_URL", "smtp:// or smtps://"),
        ("DISPATCHER_RELAYS__MAIN__URL", "smtp://", "relays.main.url", "names no host"),
        ("DISPATCHER_RELAYS__BULK__URL", "smtp://h", "relays.bulk", "not the name of a lane"),
        ("DISPATCHER_CONFIG", "missing.toml", "DISPATCHER_CONFIG", "no file"),
        ("DISPATCHER_SECRETS_DIR", "missing", "DISPATCHER_SECRETS_DIR", "no folder"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(name: str, value: str, setting: str, reason: str) -> None:
    error = refused({name: value})
    assert error.setting == setting
    assert reason in error.reason


@pytest.mark.parametrize(
    ("text", "setting", "reason"),
    [
        ("colour = 1", "colour", "unknown setting"),
        ("[delivery]\nbatch = 1", "delivery.batch", "unknown setting"),
        ("[relays.main]\nurl = 'smtp://h'\nrate = ['1 per s']", "relays.main.rate", "is no rate: write 14/s"),
        ("[relays.main]\nurl = 'smtp://h'\nrate = ['0/s']", "relays.main.rate", "is no rate"),
        ("[relays.main]\nurl = 'smtp://h'\nrate = ['20/s', '10/min']", "relays.main.rate", "20/s can never be"),
        ("[relays.main]\nurl = 'smtp://h'\nrate = ['5/min', '9/m']", "relays.main.rate", "for the same time"),
        ("[relays.main]\nurl = 'smtp://h'\n[relays.main]\nurl = 'smtp://i'", "own.toml", "line 3"),
        ("relay_url = 'smtp://h'\n[relays.default]\nurl = 'smtp://i'", "relays.default", "two relays"),
        ("[relays.'a b']\nurl = 'smtp://h'", "relays.a b", "no name for a relay"),
        ("[relays.main]\nurl = 'smtp://h'\npipelining = 'on'", "relays.main.pipelining", "'auto' or 'off'"),
        ("[relays.main]\npriority = 1", "relays.main.url", "required"),
        ("[retention]\nbulk = '1d'", "retention.bulk", "unknown setting"),
        ("data_dir = \n", "own.toml", "line 1"),
    ],
)
def test_a_wrong_key_of_the_file_is_refused_by_its_path(elsewhere: Path, text: str, setting: str, reason: str) -> None:
    error = refused(toml(elsewhere, text))
    assert error.setting.endswith(setting)
    assert reason in error.reason


@pytest.mark.parametrize(
    "environment",
    [
        {"DISPATCHER_DELIVERY__BATCH_SECONDS": "200"},
        {"DISPATCHER_DELIVERY__TASK_SECONDS": "301"},
        {"DISPATCHER_DELIVERY__LEASE_SECONDS": "100"},
        {"DISPATCHER_RELAY_URL": "smtp://h", "DISPATCHER_RELAYS__DEFAULT__TIMEOUTS__FINAL": "10m"},
    ],
)
def test_times_that_do_not_fit_into_each_other_are_refused(environment: dict[str, str]) -> None:
    assert "< task_seconds < lease_seconds must hold" in refused(environment).reason


def test_no_secret_is_shown_by_settings_or_their_errors() -> None:
    url = "smtp://user:hunter2@mail.example.com"
    settings = load({
        "DISPATCHER_RELAY_URL": url,
        "DISPATCHER_BROKER_URL": "redis://:hunter2@h",
        "DISPATCHER_LEDGER_URL": "postgresql+psycopg://u:hunter2@h/d",
        "DISPATCHER_FLOWER_PASSWORD": "hunter2",
    })  # fmt: skip
    assert "hunter2" not in repr(settings) + str(settings)
    assert "hunter2" not in repr(settings.relay_table())
    for bad in (f"{url}:x", f"{url}?tls=maybe", "smtp://user:hunter2@"):
        assert "hunter2" not in str(refused({"DISPATCHER_RELAY_URL": bad}))


def test_one_relay_url_is_the_relay_called_default_and_others_stand_in_their_order(elsewhere: Path) -> None:
    environment = toml(
        elsewhere,
        '[relays.backup]\nurl = "smtps://b.example.com"\npriority = 10\n[relays.main]\nurl = "smtp://a.example.com"',
    )
    relays = load({**environment, "DISPATCHER_RELAY_URL": "smtp://127.0.0.1:2525"}).relay_table()
    assert list(relays) == ["default", "main", "backup"]
    assert (relays["default"].tls, relays["main"].tls, relays["backup"].tls) == ("none", "starttls", "implicit")


@pytest.mark.parametrize("text", ["{0},{1}", "{0} , {1},", '["{0}", "{1}"]'])
def test_keys_are_separated_by_commas_or_json(text: str) -> None:
    first, second = "a" * 16, "b" * 20
    settings = load({"DISPATCHER_SECRET_KEYS": text.format(first, second)})
    assert [key.get_secret_value() for key in settings.secret_keys] == [first, second]
    assert first not in repr(settings)


def test_keys_are_read_from_a_secret_file_and_a_list_of_the_file(elsewhere: Path) -> None:
    secrets = elsewhere / "secrets"
    secrets.mkdir()
    (secrets / "secret_keys").write_text("a" * 16 + "\n", encoding="utf-8")
    assert len(load({"DISPATCHER_SECRETS_DIR": str(secrets)}).secret_keys) == 1
    assert len(load(toml(elsewhere, f"secret_keys = ['{'a' * 16}', '{'b' * 16}']")).secret_keys) == 2


def test_our_pages_are_where_they_listen_unless_the_world_knows_them_by_another_name() -> None:
    assert load({}).pages_url == "http://127.0.0.1:8026"
    assert load({"DISPATCHER_PUBLIC_URL": "https://mail.example.com/m/"}).pages_url == "https://mail.example.com/m"
    assert load({"DISPATCHER_PAGES__LISTEN": "[::1]:99"}).pages.place == ("::1", 99)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).data_dir = Path("x")  # type: ignore[misc]


def test_what_only_tests_and_this_reading_use_is_no_unknown_setting() -> None:
    assert isinstance(load({"DISPATCHER_TEST_REQUIRE": "all", "DISPATCHER_SCREENSHOTS": "x"}), Settings)
