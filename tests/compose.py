"""docker-compose.yml without an engine: its services resolved, and their very commands run as plain processes.

Only what an engine would give is put in its place: host names become loopback and free ports, volumes and /tmp become
folders of the test's own, and the image is made by the Dockerfile's own lines in a folder.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import free_port, missing

ROOT = Path(__file__).parents[1]
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_TERM = 15


def seconds(text: str) -> float:
    """Compose's durations, such as ``2m30s``."""
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))


def tool(name: str) -> str:
    """A program of this virtual environment, or of the PATH."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or missing(name)


def compose(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the compose program on the docker-compose.yml of a folder."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(
        [tool("docker-compose"), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def resolved(folder: Path) -> dict[str, Any]:
    """The services by name, as compose understands them."""
    done = compose(folder, "--profile", "*", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))["services"]
    return services


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile with its argument."""
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def build(folder: Path) -> Path:
    """Do in a folder what the first stage of the Dockerfile does; the virtual environment that the second one copies.

    Without `--no-cache`, which only keeps the image small, and with the uv and the Python of this machine.
    """
    source, made = folder / "src", folder / "opt"
    source.mkdir()
    path = f"{Path(tool('uv')).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "UV_PYTHON": sys.executable}
    stages = 0
    for name, rest in instructions(ROOT / "Dockerfile"):
        stages += name == "FROM"
        if stages == 1 and name == "COPY":
            *sources, target = rest.split()
            for each in sources:
                _copy(ROOT / each, source / (target if len(sources) == 1 else each))
        elif stages == 1 and name == "RUN" and not rest.startswith("pip install"):
            command = rest.replace("/opt/dispatcher", str(made)).replace(" --no-cache", "")
            done = subprocess.run(
                ["/bin/sh", "-c", command], cwd=source, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
    return made


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@dataclass
class Host:
    """What the engine gives to all services: their addresses, their secrets, and the image's programs."""

    folder: Path
    image: Path  # the virtual environment
    ports: dict[str, int] = field(
        default_factory=lambda: {port: free_port() for port in ("5555", "2525", "8025", "8026")}
    )

    def place(self, service: str, text: str) -> str:
        """The same words with this machine's folders and ports."""
        data = self.folder / service
        for inside, here in (
            ("/run/secrets", str(self.folder / f"{service}.secrets")),
            ("/var/lib/dispatcher", str(data)),
            ("/tmp/dispatcher", str(data / "tmp")),
        ):
            text = text.replace(inside, here)
        for inside, port in self.ports.items():
            text = re.sub(rf"\b{inside}\b", str(port), text)
        return text


class Container:
    """One service as a process."""

    def __init__(self, host: Host, name: str, service: Mapping[str, Any], *, extra: Sequence[str] = ()) -> None:
        self.name, self._host = name, host
        self.grace = seconds(service.get("stop_grace_period") or "10s")
        self.check: list[str] = service.get("healthcheck", {}).get("test", [])
        entrypoint = service.get("entrypoint") or (["dispatcher"] if "build" in service else [])
        self._command = [host.place(name, word) for word in (*entrypoint, *(service.get("command") or ()))] + [*extra]
        self._environment = {
            "PATH": f"{host.image / 'bin'}:{os.environ['PATH']}",
            "HOSTNAME": socket.gethostname(),
            **{
                variable: host.place(name, str(value)) for variable, value in (service.get("environment") or {}).items()
            },
        }
        if "build" in service:
            self._environment |= {"DISPATCHER_DATA_DIR": host.place(name, self._data(service)), "PYTHONSAFEPATH": "1"}
        self._folder = host.folder / name
        self._folder.mkdir(exist_ok=True, mode=0o700)
        mounted = host.folder / f"{name}.secrets"
        mounted.mkdir(exist_ok=True)
        for secret in service.get("secrets") or ():
            link = mounted / Path(secret["target"]).name
            link.unlink(missing_ok=True)
            link.symlink_to(host.folder / "secrets" / secret["source"])
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _data(service: Mapping[str, Any]) -> str:
        return str((service.get("environment") or {}).get("DISPATCHER_DATA_DIR", "/var/lib/dispatcher"))

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def run(self, *arguments: str, timeout: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """As ``docker compose run --rm SERVICE ARGUMENT ...`` does."""
        return subprocess.run(
            [*self._command, *arguments], env=self._environment, cwd=self._folder, capture_output=True, text=True,
            check=False, timeout=timeout,
        )  # fmt: skip

    def healthy(self, **environment: str) -> bool:
        """Whether its own health check says so."""
        kind, *words = (self._host.place(self.name, word) for word in self.check)
        command = ["/bin/sh", "-c", words[0]] if kind == "CMD-SHELL" else words
        done = subprocess.run(
            command, env=self._environment | environment, capture_output=True, timeout=30, check=False
        )
        return done.returncode == 0

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM, as the engine does; its exit code. TimeoutExpired when it is not within its grace period."""
        assert self._process is not None
        self._process.send_signal(_TERM)
        return self._process.wait(self.grace)

    def kill(self) -> None:
        """End it and what it started, by its process group."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self._process.wait(10)
