"""Addresses of brokers: what each says, what contradicts itself, and that no password is ever shown."""

from pathlib import Path

import pytest
import trustme

from dispatcher.broker import BrokerAddress
from dispatcher.errors import ConfigurationError
from dispatcher.sources import load

SENTINELS = "sentinel://erp:p%3Bw%40@one.example.com:26380/2;sentinel://two.example.com;sentinel://[::1]:26381"
MASTER = {"DISPATCHER_BROKER__SENTINEL_MASTER": "mymaster"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No dispatcher.toml of the folder that the tests run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def address(url: str, **environment: str) -> BrokerAddress:
    return BrokerAddress.of(load({"DISPATCHER_BROKER_URL": url, **environment}), url)


def refused(url: str | None, **environment: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load({**({} if url is None else {"DISPATCHER_BROKER_URL": url}), **environment})
    return caught.value


def test_one_server_is_named_by_its_url() -> None:
    found = address("redis://:p%2Fw@h.example.com/3")
    assert (found.sentinels, found.username, found.password, found.database, found.tls) == ((), None, "p/w", 3, False)
    assert found.display == "redis://h.example.com:6379/3"
    assert address("rediss://h:6380").tls
    assert address("redis+socket:///run/redis.sock").display == "redis+socket:///run/redis.sock"


def test_sentinels_share_the_user_password_and_database_that_stand_in_one_of_them() -> None:
    found = address(SENTINELS, **MASTER)
    assert found.sentinels == (("one.example.com", 26380), ("two.example.com", 26379), ("::1", 26381))
    assert (found.username, found.password, found.database) == ("erp", "p;w@", 2)
    places = "one.example.com:26380, two.example.com:26379, [::1]:26381"
    assert found.display == f"mymaster by sentinel://{places}"
    assert address(SENTINELS.replace("sentinel", "sentinels"), **MASTER).tls


@pytest.mark.parametrize(
    ("url", "environment", "setting", "reason"),
    [
        ("amqp://h", {}, "DISPATCHER_BROKER_URL", "unknown scheme 'amqp'"),
        ("hunter2", {}, "DISPATCHER_BROKER_URL", "is not a URL like"),
        ("redis://:hunter2@h:63x9/0", {}, "DISPATCHER_BROKER_URL", "is not a URL like"),
        ("redis://:hunter2/x@h/0", {}, "DISPATCHER_BROKER_URL", "is not a URL like"),
        ("redis://:hunter2@h/db", {}, "DISPATCHER_BROKER_URL", "number of a database"),
        ("redis://:hunter2@h/0?ssl_cert_reqs=none", {}, "DISPATCHER_BROKER_URL", "no options"),
        ("sentinel://:hunter2@h", {}, "broker.sentinel_master", "is needed"),
        ("sentinel://:hunter2@h;two:26379", MASTER, "DISPATCHER_BROKER_URL", "is not like sentinel://"),
        ("sentinel://:hunter2@h;", MASTER, "DISPATCHER_BROKER_URL", "is not like sentinel://"),
        ("sentinel://:hunter2@h;sentinel://:1", MASTER, "DISPATCHER_BROKER_URL", "is not like sentinel://"),
        ("sentinel://:hunter2@h;sentinels://b", MASTER, "DISPATCHER_BROKER_URL", "is not like sentinel://"),
        ("sentinel://:hunter2;x@h", MASTER, "DISPATCHER_BROKER_URL", "is not like sentinel://"),
        ("sentinel://:hunter2@h;sentinel://:hunter3@b", MASTER, "DISPATCHER_BROKER_URL", "several passwords"),
        ("redis://:hunter2@h", MASTER, "broker.sentinel_master", "is for sentinel://"),
        (None, MASTER, "broker.sentinel_master", "is for sentinel://"),
        ("redis://h", {"DISPATCHER_BROKER__SENTINEL_PASSWORD": "hunter2"}, "broker.sentinel_password", "is for"),
        ("redis://h", {"DISPATCHER_BROKER__TLS_CA_FILE": "ca.pem"}, "broker.tls_ca_file", "is for rediss://"),
        (None, {"DISPATCHER_BROKER__TLS_CA_FILE": "ca.pem"}, "broker.tls_ca_file", "is for rediss://"),
        ("redis://h", {"DISPATCHER_BROKER__TLS_CHECK_HOSTNAME": "false"}, "broker.tls_check_hostname", "is for"),
        ("rediss://h", {"DISPATCHER_BROKER__TLS_CA_FILE": "gone.pem"}, "broker.tls_ca_file", "no file that can be"),
        ("rediss://h", {"DISPATCHER_BROKER__TLS_KEY_FILE": "k.pem"}, "broker.tls_key_file", "of no certificate"),
    ],
)
def test_what_contradicts_itself_is_refused_by_its_setting(
    url: str | None, environment: dict[str, str], setting: str, reason: str
) -> None:
    error = refused(url, **environment)
    assert error.setting == setting
    assert reason in error.reason
    assert "hunter" not in str(error)


def test_files_that_are_no_certificates_are_refused(elsewhere: Path) -> None:
    (elsewhere / "ca.pem").write_text("-----BEGIN NOTHING-----\n")
    error = refused("rediss://h", DISPATCHER_BROKER__TLS_CA_FILE="ca.pem")
    assert (error.setting, error.reason) == ("broker.tls_ca_file", "is no PEM file of authorities")
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(elsewhere / "key.pem")
    error = refused("rediss://h", DISPATCHER_BROKER__TLS_CERT_FILE="key.pem")
    assert (error.setting, error.reason) == (
        "broker.tls_cert_file",
        "is no PEM file of a certificate with its private key, unencrypted",
    )


def test_no_password_is_shown() -> None:
    found = address(SENTINELS, **MASTER, DISPATCHER_BROKER__SENTINEL_PASSWORD="hunter2")
    assert "hunter2" not in repr(found) + found.display
    assert "p%3Bw" not in repr(found) + found.display
