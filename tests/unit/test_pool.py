from collections.abc import Iterator

import pytest

from dispatcher.errors import ConnectFailed, TransportError
from dispatcher.pool import Pool
from tests.pooled import RELAY, Clock, Opener, Session
from tests.waiting import wait_for


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def pool(opener: Opener, clock: Clock) -> Iterator[Pool[Session]]:
    made = Pool(RELAY, opener, size=2, wait_seconds=5, clock=clock)
    yield made
    made.close()


def test_the_repr_tells_idle_busy_and_size(pool: Pool[Session]) -> None:
    assert repr(pool) == "<Pool relay=main idle=0 busy=0 max=2>"
    first, second = pool.take(), pool.take()
    assert repr(pool) == "<Pool relay=main idle=0 busy=2 max=2>"
    pool.give(first)
    assert repr(pool) == "<Pool relay=main idle=1 busy=1 max=2>"
    pool.give(second)
    pool.close()
    assert repr(pool) == "<Pool relay=main idle=0 busy=0 max=2 closed>"


def test_the_session_used_last_is_given_out_first(pool: Pool[Session]) -> None:
    first, second = pool.take(), pool.take()
    pool.give(second)
    pool.give(first)
    assert pool.take() is first
    assert pool.take() is second


def test_an_idle_session_is_kept_up_to_its_idle_time_and_closed_politely_after(
    pool: Pool[Session], opener: Opener, clock: Clock
) -> None:
    session = pool.take()
    pool.give(session)
    clock.now += RELAY.idle_seconds
    assert pool.take() is session
    pool.give(session)
    clock.now += RELAY.idle_seconds + 1
    assert pool.take() is opener.opened[1]
    assert session.closed == [True]


def test_all_sessions_that_idled_too_long_are_closed_not_just_the_next(pool: Pool[Session], clock: Clock) -> None:
    first, second = pool.take(), pool.take()
    pool.give(first)
    clock.now += RELAY.idle_seconds
    pool.give(second)
    clock.now += 1
    assert pool.take() is second
    assert first.closed == [True]


def test_a_session_over_its_age_is_spent_and_not_kept(pool: Pool[Session], clock: Clock) -> None:
    session = pool.take()
    clock.now += RELAY.max_age_seconds
    assert not pool.spent(session)
    clock.now += 1
    assert pool.spent(session)
    pool.give(session)
    assert session.closed == [True]
    assert repr(pool) == "<Pool relay=main idle=0 busy=0 max=2>"


def test_age_counts_from_opening_however_often_it_is_used(pool: Pool[Session], clock: Clock) -> None:
    session = pool.take()
    for _ in range(int(RELAY.max_age_seconds) // 20):
        pool.give(session)
        clock.now += 20
        assert pool.take() is session
    clock.now += 1
    assert pool.spent(session)


def test_a_session_at_its_cap_of_messages_is_spent_and_not_kept(pool: Pool[Session]) -> None:
    session = pool.take()
    session.transactions = RELAY.max_messages_per_connection - 1
    assert not pool.spent(session)
    session.transactions += 1
    assert pool.spent(session)
    pool.give(session)
    assert session.closed == [True]


def test_an_unusable_session_is_closed_without_quit_and_never_given_out_again(
    pool: Pool[Session], opener: Opener
) -> None:
    session = pool.take()
    session.usable = False
    pool.give(session)
    assert session.closed == [False]
    assert pool.take() is opener.opened[1]


def test_a_session_whose_peer_spoke_or_hung_up_while_idle_is_not_given_out(pool: Pool[Session], opener: Opener) -> None:
    session = pool.take()
    pool.give(session)
    session.hung_up = True
    assert pool.take() is opener.opened[1]
    assert session.closed


def test_replacing_keeps_the_place_and_opens_another(pool: Pool[Session], opener: Opener) -> None:
    old, other = pool.take(), pool.take()
    fresh = pool.replace(old)
    assert fresh is opener.opened[2]
    assert old.closed == [True]
    assert not other.closed
    assert repr(pool) == "<Pool relay=main idle=0 busy=2 max=2>"


def test_a_failed_opening_gives_its_place_back(pool: Pool[Session], opener: Opener) -> None:
    session = pool.take()
    opener.down = True
    for _ in range(3):
        with pytest.raises(ConnectFailed):
            pool.take()
    with pytest.raises(ConnectFailed):
        pool.replace(session)
    assert repr(pool) == "<Pool relay=main idle=0 busy=0 max=2>"
    pool.give(session)  # as a finally does that no longer knows
    assert repr(pool) == "<Pool relay=main idle=0 busy=0 max=2>"


def test_a_closed_pool_says_quit_to_the_idle_now_and_to_the_busy_when_they_come_back(pool: Pool[Session]) -> None:
    idle, busy = pool.take(), pool.take()
    pool.give(idle)
    pool.close()
    assert (idle.closed, busy.closed) == ([True], [])
    pool.give(busy)
    assert busy.closed == [True]
    with pytest.raises(TransportError, match="closed"):
        pool.take()


def prepared(pool: Pool[Session], count: int) -> None:
    pool.prepare()
    wait_for(lambda: pool.idle == count)


def test_one_that_is_opened_ahead_is_idle_and_there_are_never_more_than_may_be(
    pool: Pool[Session], opener: Opener
) -> None:
    first = pool.take()
    prepared(pool, 1)
    assert pool.take() is opener.opened[1]
    pool.prepare()  # both are in use: there is no room
    pool.give(first)
    assert len(opener.opened) == 2
    assert pool.idle == 1


def test_after_a_refusal_none_is_opened_ahead_for_a_while(pool: Pool[Session], opener: Opener, clock: Clock) -> None:
    opener.down = True
    pool.prepare()
    wait_for(lambda: "busy=0" in repr(pool))
    opener.down = False
    pool.prepare()
    assert "busy=0" in repr(pool)
    assert pool.take() is opener.opened[0]  # who needs one is not held up
    clock.now += 10
    prepared(pool, 1)


def test_one_that_was_opened_ahead_of_the_end_is_closed(pool: Pool[Session], opener: Opener) -> None:
    pool.close()
    pool.prepare()
    assert opener.opened == []
