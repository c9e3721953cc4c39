"""Why a broker does not serve us, in one line that names the setting and never a password."""

import ssl
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.sentinel import MasterNotFoundError

from dispatcher.broker import SETTING, BrokerAddress

_PASSWORD = "broker.sentinel_password"  # noqa: S105 - a setting's name


@dataclass(frozen=True, slots=True)
class Fault:
    """``refused``: it answers and will not have us, so that a person must act; else it may come back by itself."""

    setting: str
    reason: str
    refused: bool

    def __str__(self) -> str:
        return f"{self.setting}: {self.reason}"


def tls_options(address: BrokerAddress) -> dict[str, Any]:
    """How redis-py and kombu spell the TLS settings; what is not set goes by the system's authorities."""
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": address.tls_check_hostname,
        "ssl_ca_certs": address.tls_ca_file,
        "ssl_certfile": address.tls_cert_file,
        "ssl_keyfile": address.tls_key_file,
    }


def sentinel_options(address: BrokerAddress) -> dict[str, Any]:
    """How a sentinel is asked: soon over, since there are others, and the next command asks again."""
    tls = {"ssl": True, **tls_options(address)} if address.tls else {}
    return {
        "password": address.sentinel_password,
        "socket_timeout": 2,
        "socket_connect_timeout": 1,
        "retry": None,
        **tls,
    }


def fault(error: RedisError, address: BrokerAddress) -> Fault:
    """An error of redis-py in our words."""
    if isinstance(error, MasterNotFoundError):
        return _of_sentinels(address)
    if refusal := _refusal(error, given=address.password is not None):
        return Fault(SETTING, f"{address.display} {refusal}", refused=True)
    answer = "answers" if isinstance(error, ResponseError) else "is out of reach"
    return Fault(SETTING, f"{address.display} {answer}: {_first_line(error)}", refused=False)


def _refusal(error: BaseException, *, given: bool) -> str | None:
    """What the server has against us, as a verb; None when waiting may help. ``given``: we named a password."""
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        if "without any password" in str(error):
            return "has no password, but is given one"
        return "refuses this user or password" if given else "wants a password, and none is given"
    if isinstance(error, NoPermissionError):
        return f"does not let this user do it: {_first_line(error)}"
    if isinstance(error, ReadOnlyError):
        return "is a read-only replica: name its master, or the sentinels that know it"
    found = _tls_error(error)
    return found and f"is not reached by TLS: {found}; see [broker] tls_ca_file, tls_cert_file and tls_check_hostname"


def _tls_error(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if isinstance(error, ssl.SSLEOFError):
            return "the server hung up, as it does when it wants a certificate of ours"
        if isinstance(error, ssl.SSLError):
            return str(error.reason or error).replace("_", " ").lower()
        error = error.__cause__ or error.__context__
    return None


def _of_sentinels(address: BrokerAddress) -> Fault:
    """Ask each of them why there is no master."""
    known: set[str] = set()
    silent: list[str] = []
    for host, port in address.sentinels:
        try:
            with Redis(host, port, **sentinel_options(address)) as sentinel:
                known |= set(sentinel.sentinel_masters())
        except RedisError as error:
            if refusal := _refusal(error, given=address.sentinel_password is not None):
                setting = _PASSWORD if isinstance(error, AuthenticationError) else SETTING
                return Fault(setting, f"the sentinel {host}:{port} {refusal}", refused=True)
            silent.append(_first_line(error))
    if address.sentinel_master in known:
        return Fault(SETTING, f"the sentinels see no master {address.sentinel_master!r} that lives", refused=False)
    if known:
        names = ", ".join(sorted(known))
        reason = f"the sentinels know no {address.sentinel_master!r}; they know {names}"
        return Fault("broker.sentinel_master", reason, refused=True)
    return Fault(SETTING, f"no sentinel answers: {silent[0] if silent else 'they know no master yet'}", refused=False)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
