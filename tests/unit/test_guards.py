"""The guards' patches fit the code as it is; `make guards` applies them and runs their tests."""

import pytest

from tests.guards.guard import Guard
from tests.guards.table import GUARDS


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guards_patch_applies_and_its_test_exists(guard: Guard) -> None:
    guard.check()


def test_no_two_guards_share_a_name() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)
