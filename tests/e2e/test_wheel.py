"""The wheel: everything lives inside ``dispatcher``, and works from there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel's content."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCHER_")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "DISPATCHER_DATA_DIR": str(installed / "var")}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=installed.parent, capture_output=True, text=True, check=False
    )


def test_it_shadows_nobodys_tasks_or_templates(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} - {"var"}
    assert top == {"dispatcher"}
    assert (installed / "dispatcher" / "py.typed").exists()


def test_its_templates_are_found_inside(installed: Path) -> None:
    done = run(installed, "-m", "dispatcher.cli", "templates", "check", "--json")
    assert done.returncode == 0, done.stderr
    assert "order_confirmation" in done.stdout


def test_its_workers_start_under_their_own_name(installed: Path) -> None:
    done = run(installed, "-c", "import dispatcher.tasks; print(dispatcher.tasks.app.conf.include)")
    assert (
        done.stdout.strip() == "['dispatcher.tasks.outbound', 'dispatcher.tasks.intake', 'dispatcher.tasks.lifecycle']"
    )
    assert run(installed, "-m", "dispatcher.tasks", "worker", "--help").returncode == 0
