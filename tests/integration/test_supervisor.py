"""The supervisor with real processes: what is killed comes back, what is asked to stop stops, in its order."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.adapters.redis import Broker
from dispatcher.adapters.runtime import Runtime, read
from dispatcher.adapters.supervisor import FIRST_DELAY, Program, StopRequests, Supervisor
from dispatcher.adapters.valkey import Valkey, find_server
from dispatcher.errors import ConfigurationError
from tests.waiting import wait_for

SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""


def program(name: str, code: str, *, stage: int = 0, grace: float = 5.0, **environment: str) -> Program:
    return Program(name, (sys.executable, "-c", code), stage=stage, grace=grace, environment=environment)


def lives(pid: int) -> bool:
    """Whether it runs; one that has ended and is not waited for yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    made = Supervisor(log_dir=tmp_path / "logs", say=said.append)
    yield made
    made.stop(impatient=lambda: True)


def until(supervisor: Supervisor, condition: Callable[[], object]) -> None:
    """Look after the children until it is so."""

    def look() -> object:
        supervisor.look()
        return condition()

    wait_for(look, 20)


def test_a_killed_process_is_started_again_after_a_moment(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(program("sleeper", SLEEPER))
    (child,) = supervisor.children
    first = child.pid
    assert first is not None
    began = time.monotonic()
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: child.pid not in (None, first))
    assert time.monotonic() - began >= FIRST_DELAY
    assert child.restarts == 1
    assert said[0] == "sleeper was ended by SIGKILL; it is started again in 0.5 s"
    assert lives(child.pid or 0)


@pytest.mark.skipif(sys.platform != "linux", reason="whether a process stands still is known from /proc")
def test_one_that_stands_still_is_killed_and_started_again(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(replace(program("still", SLEEPER), frozen=0.3))
    supervisor.start(program("free", SLEEPER))
    still, free = (child.pid for child in supervisor.children)
    assert still is not None
    assert free is not None
    for pid in (still, free):
        os.kill(pid, signal.SIGSTOP)
    until(supervisor, lambda: supervisor.children[0].restarts == 1)
    assert not lives(still)
    assert "still stood still for 0.3 s and is killed" in said
    assert supervisor.children[1].pid == free
    assert lives(free)


def test_what_dies_at_once_is_started_ever_more_slowly(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start(program("failing", "raise SystemExit(3)"))
    until(supervisor, lambda: supervisor.children[0].restarts == 2)
    until(supervisor, lambda: len(said) >= 5)
    waits = [line.rpartition(" in ")[2] for line in said if "exit code 3" in line]
    assert waits[:3] == ["0.5 s", "1 s", "2 s"]


def test_programs_stop_by_their_stages(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import os, signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(0.2)\n"
        f"    open({str(order)!r}, 'a').write(os.environ['NAME'] + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('listening', flush=True)\n"
        "time.sleep(600)\n"
    )
    for name, stage in (("broker", 2), ("worker", 0), ("beat", 1)):
        supervisor.start(program(name, code, stage=stage, NAME=name))
    logs = [tmp_path / "logs" / f"{name}.log" for name in ("broker", "worker", "beat")]
    wait_for(lambda: all("listening" in log.read_text() for log in logs))
    supervisor.stop()
    assert order.read_text().split() == ["worker", "beat", "broker"]


def test_what_does_not_stop_in_time_is_killed(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    supervisor.start(program("deaf", STUBBORN, grace=0.5))
    wait_for(lambda: "deaf" in (tmp_path / "logs" / "deaf.log").read_text())
    pid = supervisor.children[0].pid or 0
    supervisor.stop()
    assert not lives(pid)
    assert said == ["deaf does not stop in time and is killed"]


def test_who_is_impatient_does_not_wait_for_the_grace(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program("deaf", STUBBORN, grace=600))
    wait_for(lambda: "deaf" in (tmp_path / "logs" / "deaf.log").read_text())
    began = time.monotonic()
    supervisor.stop(impatient=lambda: True)
    assert time.monotonic() - began < 5


def test_a_hangup_that_is_ignored_stays_so_as_nohup_wants_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests() as requests:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            wait_for(lambda: requests.count)
            assert requests.count == 1
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_children_of_a_killed_program_end_within_its_grace(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(program("parent", PARENT, grace=1.0))
    log = tmp_path / "logs" / "parent.log"
    grandchild = int(wait_for(lambda: log.read_text().split())[1])
    os.kill(supervisor.children[0].pid or 0, signal.SIGKILL)
    until(supervisor, lambda: supervisor.children[0].restarts == 1)
    assert lives(grandchild)  # it may have been in the middle of a mail
    until(supervisor, lambda: not lives(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_children_end_when_the_supervisor_is_killed() -> None:
    code = (
        "import sys, time\n"
        "from dispatcher.adapters.supervisor import Program, Supervisor\n"
        "supervisor = Supervisor()\n"
        "supervisor.start(Program('sleeper', (sys.executable, '-c', 'import time; time.sleep(600)')))\n"
        "print(supervisor.children[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        child = int(process.stdout.readline())
    assert lives(child)
    process.kill()
    process.wait()
    wait_for(lambda: not lives(child))


def test_a_childs_lines_come_out_with_its_name_before_them(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    supervisor = Supervisor()
    supervisor.start(program("talker", "print('grüße'); print('second')"))
    until(supervisor, lambda: supervisor.children[0].pid is None)
    supervisor.stop()
    lines = capfdbinary.readouterr().err.decode().splitlines()
    assert [line for line in lines if line.startswith("talker")] == ["talker        | grüße", "talker        | second"]


# -- what other commands find


def test_a_data_folder_has_one_stack_and_others_read_about_it(tmp_path: Path) -> None:
    first, second = Runtime(tmp_path), Runtime(tmp_path)
    assert read(tmp_path) is None
    first.claim()
    first.write({"pid": 4711, "broker_url": "redis://:secret@h"})
    try:
        assert (read(tmp_path) or {})["pid"] == 4711
        assert (tmp_path / "runtime.json").stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConfigurationError, match=r"runs on .* already \(pid 4711\)"):
            second.claim()
    finally:
        first.release()
    assert read(tmp_path) is None
    second.claim()
    second.release()


def test_what_a_killed_stack_left_behind_is_no_stack(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom dispatcher.adapters.runtime import Runtime\n"
        f"runtime = Runtime(Path({str(tmp_path)!r}))\nruntime.claim()\nruntime.write({{'pid': {os.getpid()}}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "runtime.json").exists()  # and it names a process that lives: this one
    assert read(tmp_path) is None


# -- the embedded broker


@pytest.fixture
def valkey(tmp_path: Path) -> Valkey:
    try:
        return Valkey(tmp_path / "bro ker", find_server(None))
    except ConfigurationError as error:
        pytest.skip(str(error))


def test_the_broker_keeps_port_password_and_queues_over_a_kill(supervisor: Supervisor, valkey: Valkey) -> None:
    valkey.prepare()
    supervisor.start(Program("broker", valkey.command))
    until(supervisor, valkey.ready)
    url, first = valkey.url, supervisor.children[0].pid or 0
    ask(url, lambda broker: broker._redis.lpush("mail.bulk", "bell"))
    os.kill(first, signal.SIGKILL)
    until(supervisor, lambda: supervisor.children[0].restarts == 1)
    until(supervisor, valkey.ready)
    assert ask(url, lambda broker: broker.depth("mail.bulk")) == 1


def ask(url: str, question: Callable[[Broker], object]) -> object:
    broker = Broker(url)
    try:
        return question(broker)
    finally:
        broker.close()


def test_the_broker_refuses_who_has_no_password_and_never_evicts(supervisor: Supervisor, valkey: Valkey) -> None:
    valkey.prepare()
    supervisor.start(Program("broker", valkey.command))
    until(supervisor, valkey.ready)
    with socket.create_connection(("127.0.0.1", valkey.port), timeout=5) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")
    info = ask(valkey.url, lambda broker: broker.info())
    assert isinstance(info, dict)
    assert info["maxmemory_policy"] == "noeviction"
    assert info["aof_enabled"] == 1
    assert valkey.url.split("@")[0].rpartition(":")[2] not in " ".join(valkey.command) + repr(valkey)
    assert (Path(valkey.command[1]).stat().st_mode & 0o777) == 0o600


def test_a_broker_that_was_left_behind_is_stopped_before_its_files_are_used_again(valkey: Valkey) -> None:
    valkey.prepare()
    leftover = subprocess.Popen(valkey.command, stdout=subprocess.DEVNULL)
    try:
        wait_for(valkey.ready)
        url = valkey.url
        valkey.prepare()
        assert leftover.wait(10) == 0
        assert valkey.url == url
    finally:
        leftover.kill()
        leftover.wait()


def test_a_port_that_another_took_meanwhile_is_given_up(valkey: Valkey) -> None:
    valkey.prepare()
    first = valkey.port
    with socket.create_server(("127.0.0.1", first)):
        valkey.prepare()
    assert valkey.port != first


def test_a_named_server_must_be_a_program(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="DISPATCHER_REDIS_SERVER: no program at"):
        find_server(tmp_path / "redis-server")
