"""Nobody looks for rubbish within a block that says so, and everybody does again after it."""

import gc
from collections.abc import Iterator

import pytest

from dispatcher.rubbish import uncollected
from tests.unit.test_dispatcher import MAIL, Stage


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_it_rests_within_and_goes_on_after() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), uncollected():
        _ = 1 / 0
    assert gc.isenabled()


def test_whoever_has_it_off_keeps_it_off() -> None:
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


def test_what_a_producer_does_between_two_mails_is_not_in_it() -> None:
    seen: list[bool] = []

    def mails() -> Iterator[dict[str, object]]:
        for _ in range(3):
            seen.append(gc.isenabled())
            yield MAIL

    answered = [gc.isenabled() for _ in Stage().dispatcher.submit_many(mails(), chunk=2)]
    assert seen + answered == [True] * 6
