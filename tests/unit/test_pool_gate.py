"""The pool asks before it opens and tells when it has closed, on every path."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dispatcher.errors import ConnectFailed, LimitReached
from dispatcher.memory import MemoryLimiter
from dispatcher.pool import Pool
from tests.pooled import RELAY, Clock, Opener, Session

LIMITED = replace(RELAY, max_connections=2)


@pytest.fixture
def limiter() -> MemoryLimiter:
    made = MemoryLimiter()
    made.limits({"main": LIMITED})
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def pool(opener: Opener, clock: Clock, limiter: MemoryLimiter) -> Iterator[Pool[Session]]:
    made = Pool(LIMITED, opener, size=4, wait_seconds=5, clock=clock, gate=limiter)
    yield made
    made.close()


def connections(limiter: MemoryLimiter) -> int:
    return limiter.usage()["main"].connections


def test_over_the_limit_nothing_is_opened(pool: Pool[Session], opener: Opener, limiter: MemoryLimiter) -> None:
    pool.take()
    assert limiter.beside().enter("main") == 0
    with pytest.raises(LimitReached, match="relay main: all 2 connections are in use") as caught:
        pool.take()
    assert caught.value.seconds > 0
    assert len(opener.opened) == 1
    assert repr(pool) == "<Pool relay=main idle=0 busy=1 max=4>"
    assert connections(limiter) == 2


def test_every_way_of_closing_is_told(
    pool: Pool[Session], opener: Opener, clock: Clock, limiter: MemoryLimiter
) -> None:
    session = pool.take()
    pool.give(session)
    assert connections(limiter) == 1  # kept
    clock.now += LIMITED.idle_seconds + 1
    session = pool.take()
    assert connections(limiter) == 1  # the old one is closed, a new one open
    session.usable = False
    pool.give(session)
    assert connections(limiter) == 0
    opener.down = True
    with pytest.raises(ConnectFailed):
        pool.take()
    assert connections(limiter) == 0
    opener.down = False
    session = pool.take()
    session = pool.replace(session)
    assert connections(limiter) == 1
    opener.down = True
    with pytest.raises(ConnectFailed):
        pool.replace(session)
    pool.give(session)  # as a finally does that no longer knows
    assert connections(limiter) == 0
    opener.down = False
    idle, busy = pool.take(), pool.take()
    pool.give(idle)
    pool.close()
    assert connections(limiter) == 1
    pool.give(busy)
    assert connections(limiter) == 0


def test_a_session_that_others_wait_for_is_closed_not_kept(pool: Pool[Session], limiter: MemoryLimiter) -> None:
    other = limiter.beside()
    session, second = pool.take(), pool.take()
    pool.give(second)
    assert other.enter("main") > 0
    pool.tend()
    assert (second.closed, session.closed) == ([True], [])
    pool.give(session)
    assert session.closed == [True]
    assert other.enter("main") == 0


def test_tending_closes_what_idled_too_long_and_leaves_the_rest(
    pool: Pool[Session], clock: Clock, limiter: MemoryLimiter
) -> None:
    old, new = pool.take(), pool.take()
    pool.give(old)
    clock.now += LIMITED.idle_seconds
    pool.give(new)
    clock.now += 1
    pool.tend()
    assert (old.closed, new.closed) == ([True], [])
    assert connections(limiter) == 1


def test_what_a_child_inherited_is_not_its_to_leave(pool: Pool[Session], limiter: MemoryLimiter) -> None:
    idle, busy = pool.take(), pool.take()
    pool.give(idle)
    pool._pid = os.getpid() - 1  # as a child finds it
    pool.tend()
    assert idle.closed == []
    with pytest.raises(LimitReached):
        pool.take()
    assert idle.closed == [False]
    pool.give(busy)
    assert connections(limiter) == 2
