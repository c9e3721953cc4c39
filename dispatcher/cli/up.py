"""``dispatcher up``: the whole stack on one machine, in the foreground.

This process only watches, so it imports little: what needs the ledger or Celery is asked of a child.
"""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dispatcher.cli.output import duration, note, table
from dispatcher.errors import ConfigurationError
from dispatcher.settings import Settings, load

if TYPE_CHECKING:
    from dispatcher.adapters.runtime import Runtime
    from dispatcher.adapters.supervisor import StopRequests, Supervisor

_FLOWER_PORTS = range(5555, 5655)
_BROKER_SECONDS = 60.0  # reading a large queue back from disk takes its time
_READY_SECONDS = "300"
_SELF = (sys.executable, "-c", "from dispatcher.cli import main; main()")
_PASSWORD = re.compile(r"(?<=:)[^:@/]+(?=@)")


def up(
    log_dir: Annotated[
        Path | None, typer.Option("--log-dir", help="Write each process' log into this folder, not to stderr.")
    ] = None,
) -> None:
    """Run the whole stack in the foreground: broker, workers, beat and Flower.

    Ctrl-C or SIGTERM drains and stops it; a second one stops it at once. What dies is started again. The broker is
    embedded unless DISPATCHER_BROKER_URL names one. Other commands find the stack by the data folder.
    """
    from dispatcher.adapters.runtime import Runtime  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.supervisor import StopRequests, Supervisor  # noqa: PLC0415 - as above

    settings = load()
    _check_ledger()
    runtime = Runtime(settings.data_dir)
    runtime.claim()
    supervisor = Supervisor(log_dir=log_dir, say=lambda event: note(f"dispatcher: {event}"))
    with StopRequests() as requests:
        try:
            _run(settings, runtime, supervisor, requests)
        finally:
            note("dispatcher: draining and stopping")
            supervisor.stop(impatient=lambda: requests.count > 1)
            runtime.release()
    note("dispatcher: stopped")


def _run(settings: Settings, runtime: "Runtime", supervisor: "Supervisor", requests: "StopRequests") -> None:
    """Start everything, then watch it until somebody asks to stop."""
    from dispatcher.adapters.supervisor import LOOK_SECONDS  # noqa: PLC0415 - as above
    from dispatcher.cli import programs  # noqa: PLC0415 - as above

    document: dict[str, Any] = {"pid": os.getpid(), "started": time.time()}
    document["broker_url"] = _start_broker(settings, supervisor, requests)
    port = _flower_port()
    document["flower"] = f"http://127.0.0.1:{port}"
    _write(runtime, document, supervisor)  # the workers find the broker by it
    for program in programs.celery(settings, port):
        supervisor.start(program)
    _write(runtime, document, supervisor)
    _show(settings, document, supervisor)
    readiness = _Readiness(document["started"])
    while not requests.count:
        if supervisor.look():
            _write(runtime, document, supervisor)
        readiness.look()
        time.sleep(LOOK_SECONDS)
    readiness.end()


def _check_ledger() -> None:
    """Make or check data folder and ledger in a child, which says what is wrong; end as it did when something is."""
    done = subprocess.run([*_SELF, "db", "check"], stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - ourselves
    if done.returncode != 0:
        raise typer.Exit(done.returncode)


def _start_broker(settings: Settings, supervisor: "Supervisor", requests: "StopRequests") -> str:
    """The broker's URL; an embedded one answers when this returns."""
    if settings.broker_url is not None:
        return settings.broker_url.get_secret_value()
    from dispatcher.adapters.supervisor import LOOK_SECONDS  # noqa: PLC0415 - as above
    from dispatcher.adapters.valkey import Valkey, find_server  # noqa: PLC0415 - as above
    from dispatcher.cli import programs  # noqa: PLC0415 - as above

    valkey = Valkey(settings.data_dir / "broker", find_server(settings.redis_server))
    valkey.prepare()
    supervisor.start(programs.broker(valkey))
    until = time.monotonic() + _BROKER_SECONDS
    while not valkey.ready() and not requests.count:
        supervisor.look()
        if time.monotonic() > until:
            raise ConfigurationError("DISPATCHER_REDIS_SERVER", "the embedded broker does not answer; see its log above")
        time.sleep(LOOK_SECONDS / 4)
    return valkey.url


def _flower_port() -> int:
    for port in _FLOWER_PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ConfigurationError("dispatcher up", f"no port for Flower is free from {_FLOWER_PORTS[0]} on")


def _write(runtime: "Runtime", document: dict[str, Any], supervisor: "Supervisor") -> None:
    processes = [
        {"name": child.program.name, "pid": child.pid, "restarts": child.restarts} for child in supervisor.children
    ]
    runtime.write(document | {"processes": processes})


def _show(settings: Settings, document: dict[str, Any], supervisor: "Supervisor") -> None:
    """What runs where, for a person."""
    where = {
        "broker": _PASSWORD.sub("***", document["broker_url"]),
        "transactional": "mail.transactional",
        "bulk": "mail.bulk",
        "intake": "mail.intake, mail.control",
        "beat": f"rings the sweep every {settings.delivery.sweep_seconds:g} s",
        "flower": document["flower"] + (" (user dispatcher)" if settings.flower_password else ""),
    }
    rows = [(child.program.name, child.pid, where[child.program.name]) for child in supervisor.children]
    if settings.broker_url is not None:
        rows.insert(0, ("broker", None, where["broker"]))
    rows.append(("ledger", None, _PASSWORD.sub("***", settings.ledger)))
    rows.extend((f"relay {name}", None, relay.display) for name, relay in settings.relay_table().items())
    table(("what", "pid", "where"), rows)
    sys.stdout.flush()
    if not settings.relays:
        note("dispatcher: no relay is configured, so mail is accepted and waits: set DISPATCHER_RELAY_URL")


class _Readiness:
    """Says once how long it took until every lane was served; asks ``dispatcher wait --ready``."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(  # noqa: S603 - ourselves
            [*_SELF, "wait", "--ready", "--timeout", _READY_SECONDS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def look(self) -> None:
        """Cheap; call it often."""
        if self._process is None or self._process.poll() is None:
            return
        if self._process.returncode == 0:
            note(f"dispatcher: ready after {duration(time.time() - self._started)}")
        self._process = None

    def end(self) -> None:
        """Ask no longer."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
