"""The guards' patches fit the code as it is; `make guards` applies them and runs their tests."""

import os
import subprocess
import sys

import pytest

from tests.guards.guard import ROOT, Guard
from tests.guards.table import GUARDS


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guards_patch_applies_and_its_test_exists(guard: Guard) -> None:
    guard.check()


def test_no_two_guards_share_a_name() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


def test_every_guards_test_is_found_with_its_parameters() -> None:
    names = {guard.test for guard in GUARDS}
    short = {name: value for name, value in os.environ.items() if name != "DISPATCHER_TEST_FULL"}
    short["DISPATCHER_TEST_KINDS"] = "all"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *sorted(names)]
    done = subprocess.run(command, cwd=ROOT, env=short, capture_output=True, text=True, check=False)
    assert not names - set(done.stdout.splitlines()), done.stdout + done.stderr
