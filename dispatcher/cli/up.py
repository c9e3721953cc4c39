"""``dispatcher up``: the whole stack on one machine, in the foreground.

This process only watches, so it imports little: what needs the ledger or Celery is asked of a child.
"""

import os
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from dispatcher.cli.exits import told
from dispatcher.cli.opening import opened_ledger, settings_of_user
from dispatcher.cli.output import duration, note, table
from dispatcher.errors import ConfigurationError, DispatcherError

if TYPE_CHECKING:
    from dispatcher.adapters.runtime import Runtime
    from dispatcher.adapters.supervisor import Program, StopRequests, Supervised, Supervisor
    from dispatcher.settings import Settings

_FLOWER_PORTS = range(5555, 5655)
_BROKER_SECONDS = 60.0  # reading a large queue back from disk takes its time
_BROKER_TRIES = 3  # after so many it is no accident
_READY_SECONDS = "60"
_LOOK_SECONDS = 0.1
_STUCK_LOOK_SECONDS, _STUCK_SECONDS = 1.0, 3.0
_SELF = (sys.executable, "-c", "from dispatcher.cli import main; main()")
_PASSWORD = re.compile(r"(?<=:)[^/?#]*(?=@[^@/]*)|(?<=password=)[^&]+")


def up(
    log_dir: Annotated[
        Path | None,
        typer.Option("--log-dir", metavar="FOLDER", help="Write each process' log into this folder, not to stderr."),
    ] = None,
    flower: Annotated[bool, typer.Option("--flower/--no-flower", help="Run Flower, too.")] = True,
) -> None:
    """Run the whole stack on this machine, in the foreground.

    Broker, workers, beat, our pages and Flower. Ctrl-C or SIGTERM drains and stops it; a second one stops it at once.
    What dies is started again. The broker is embedded unless DISPATCHER_BROKER_URL names one. Other commands find the
    stack by the data folder.
    """
    from dispatcher.adapters.runtime import Runtime  # noqa: PLC0415 - --help needs none of it
    from dispatcher.adapters.supervisor import StopRequests, Supervisor  # noqa: PLC0415 - as above

    settings = settings_of_user()
    _check_servers(settings)
    runtime = Runtime(settings.data_dir)
    runtime.claim()
    supervisor = Supervisor(log_dir=log_dir, say=_say)
    with StopRequests() as requests:
        try:
            _Stack(settings, runtime, supervisor, requests).run(flower=flower)
        finally:
            _say("draining and stopping")
            supervisor.stop(impatient=lambda: requests.count > 1)
            runtime.release()
    _say("stopped")


def _say(event: str) -> None:
    """What happens to the stack must not end it: the disk of the log may be full."""
    with suppress(OSError):
        note(f"dispatcher: {event}")


class _Stack:
    """The processes in the order in which they start, and what the runtime file says about them."""

    def __init__(
        self, settings: "Settings", runtime: "Runtime", supervisor: "Supervisor", requests: "StopRequests"
    ) -> None:
        from dispatcher.adapters.journals import FileJournals  # noqa: PLC0415 - --help needs none of it

        self._settings, self._runtime, self._supervisor, self._requests = settings, runtime, supervisor, requests
        self._started, self._stale = time.time(), False
        self._broker_url, self._flower, self._ready = "", "", False
        self._journals, self._watched = FileJournals.of(settings.data_dir), time.monotonic()

    def run(self, *, flower: bool) -> None:
        """Start everything, then watch it until somebody asks to stop."""
        from dispatcher.cli import programs  # noqa: PLC0415 - --help needs none of it

        self._broker_url = self._broker()
        port = self._find_flower_port() if flower else 0
        self._write()  # the workers find the broker by it
        self._start(*programs.workers(self._settings))
        with _Readiness() as readiness:
            self._watch(readiness.over)
        if self._requests.count:
            return
        self._ready = readiness.reached is not None
        # The others come second: nobody waits for them, and without a beat every worker sweeps by itself.
        self._start(programs.beat(self._settings))
        if self._settings.pages.enabled:
            self._start(programs.pages())
        if port:
            self._start(programs.flower(self._settings, port))
        self._show()
        if readiness.reached:
            note(f"dispatcher: ready after {duration(readiness.reached - self._started)}")
        self._watch(lambda: False)

    def _start(self, *programs: "Program") -> None:
        for program in programs:
            self._supervisor.start(program)
        self._write()

    def _watch(self, over: Callable[[], bool]) -> None:
        while not self._requests.count and not over():
            self._end_stuck()
            if self._supervisor.look():
                self._mend_flower()
                self._stale = True
            if self._stale:
                with suppress(OSError):  # the disk is full: at the next look again
                    self._write()
            time.sleep(_LOOK_SECONDS)

    def _end_stuck(self) -> None:
        """The workers watch each other; this is for the day when none of them moves."""
        if time.monotonic() - self._watched >= _STUCK_LOOK_SECONDS:
            self._watched = time.monotonic()
            for pid in self._journals.end_stuck(_STUCK_SECONDS):
                _say(f"a worker process outlived its lease and was killed (pid {pid})")

    def _mend_flower(self) -> None:
        """Another stack of this machine may have taken the port between our look and Flower's."""
        from dispatcher.cli import programs  # noqa: PLC0415 - --help needs none of it

        for child in self._supervisor.children:
            if child.program.name == "flower" and child.pid is None:
                child.program = programs.flower(self._settings, self._find_flower_port())

    def _find_flower_port(self) -> int:
        port = _flower_port()
        self._flower = f"http://127.0.0.1:{port}"
        return port

    def _broker(self) -> str:
        """The broker's URL; an embedded one answers when this returns."""
        settings = self._settings
        if settings.broker_url is not None:
            return settings.broker_url.get_secret_value()
        from dispatcher.adapters.valkey import Valkey, find_server  # noqa: PLC0415 - --help needs none of it
        from dispatcher.cli import programs  # noqa: PLC0415 - as above

        valkey = Valkey(settings.data_dir / "broker", find_server(settings.redis_server))
        valkey.prepare()
        self._broker_url = valkey.url
        self._write()  # mail that is accepted meanwhile waits for it
        self._supervisor.start(programs.broker(valkey))
        broker = self._supervisor.children[-1]
        until = time.monotonic() + _BROKER_SECONDS
        self._watch(lambda: valkey.ready() or broker.restarts > _BROKER_TRIES or time.monotonic() > until)
        if not self._requests.count and not valkey.ready():
            if not broker.restarts:
                raise ConfigurationError(
                    "the embedded broker",
                    f"does not answer after {_BROKER_SECONDS:g} s, and may still read its file: see "
                    f"{self._log_of(broker)}",
                )
            raise ConfigurationError(
                "the embedded broker",
                f"does not start; {self._log_of(broker)} says why. If its file is damaged, repair it (valkey-check-aof "
                f"--fix), or move {valkey.folder} away: no accepted mail is in it, only what was handed over and not "
                "taken in yet",
            )
        return valkey.url

    def _log_of(self, child: "Supervised") -> str:
        log = self._supervisor.log_of(child)
        return "its log (above)" if log is None else str(log)

    def _write(self) -> None:
        processes = self._settings.delivery.processes
        self._runtime.write(
            {
                "pid": os.getpid(),
                "started": self._started,
                "ready": self._ready,
                "broker_url": self._broker_url,
                "flower": self._flower,
                "pages": f"http://{self._settings.pages.listen}" if self._settings.pages.enabled else "",
                "journals": processes.transactional + processes.bulk + processes.intake,
                "processes": [
                    {"name": child.program.name, "pid": child.pid, "restarts": child.restarts}
                    for child in self._supervisor.children
                ],
            }
        )
        self._stale = False

    def _show(self) -> None:
        """What runs where, for a person."""
        settings = self._settings
        where = {
            "broker": _PASSWORD.sub("***", self._broker_url),
            "transactional": "mail.transactional",
            "bulk": "mail.bulk",
            "intake": "mail.intake, mail.control",
            "beat": f"rings the sweep every {settings.delivery.sweep_seconds:g} s",
            "pages": f"http://{settings.pages.listen}, in mails {settings.pages_url}",
            "flower": self._flower + (" (user dispatcher)" if settings.flower_password else ""),
        }
        rows = [(child.program.name, child.pid, where[child.program.name]) for child in self._supervisor.children]
        if settings.broker_url is not None:
            rows.insert(0, ("broker", None, where["broker"]))
        rows.append(("ledger", None, _PASSWORD.sub("***", settings.ledger)))
        rows.extend((f"relay {name}", None, relay.display) for name, relay in settings.relay_table().items())
        table(("what", "pid", "where"), rows)
        sys.stdout.flush()
        if not settings.relays:
            note("dispatcher: no relay is configured, so mail is accepted and waits: set DISPATCHER_RELAY_URL")


def _check_servers(settings: "Settings") -> None:
    """Make or check data folder and ledger, and look at a broker that is not ours, in a child, so that this process
    stays small; end as it did if it must."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with opened_ledger(settings) as ledger:
                ledger.ticks()
            if settings.broker_url is not None:
                _look_at_broker(settings)
            code = 0
        except DispatcherError as error:
            code = told(error)
        except BaseException:  # noqa: BLE001 - a bug: it is shown, but must not run on as a second supervisor
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise typer.Exit(abs(code))


def _look_at_broker(settings: "Settings") -> None:
    from dispatcher.adapters.redis import checked  # noqa: PLC0415 - only the child imports it
    from dispatcher.adapters.runtime import broker_address  # noqa: PLC0415 - as above

    if address := broker_address(settings):
        for warning in checked(address):
            note(f"dispatcher: {warning}")


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


class _Readiness:
    """Whether every lane is served: asks ``dispatcher wait --ready``. ``reached``: when it was, on the wall clock."""

    def __init__(self) -> None:
        self.reached: float | None = None
        self._probe: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._probe = subprocess.Popen(  # noqa: S603 - ourselves
            [*_SELF, "wait", "--ready", "--timeout", _READY_SECONDS],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._probe is not None:
            self._probe.kill()
            self._probe.wait()

    def over(self) -> bool:
        """True once it is ready, or was waited for long enough."""
        if self._probe is None or self._probe.poll() is None:
            return False
        if self._probe.returncode == 0:
            self.reached = time.time()
        return True
