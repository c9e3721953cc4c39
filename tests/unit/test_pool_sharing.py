"""The pool among threads, and across a fork."""

import os
import signal
import threading

import pytest

from dispatcher.errors import ConnectFailed, PoolTimeout
from dispatcher.pool import Pool
from tests.pooled import RELAY, Opener, Session
from tests.servers import wait_until


def test_waiting_for_a_session_has_a_bound() -> None:
    opener = Opener()
    pool = Pool(RELAY, opener, size=1, wait_seconds=0.05)
    session = pool.take()
    with pytest.raises(PoolTimeout, match=r"all 1 connections stayed in use for 0\.05 s"):
        pool.take()
    pool.give(session)
    assert pool.take() is session


def test_who_waits_gets_the_session_that_is_given_back() -> None:
    opener = Opener()
    pool = Pool(RELAY, opener, size=1, wait_seconds=10)
    session = pool.take()
    got: list[Session] = []
    waiter = threading.Thread(target=lambda: got.append(pool.take()))
    waiter.start()
    wait_for_waiter(pool)
    pool.give(session)
    waiter.join(10)
    assert got == [session]


def test_who_waits_may_open_in_the_place_of_a_broken_session() -> None:
    opener = Opener()
    pool = Pool(RELAY, opener, size=1, wait_seconds=10)
    session = pool.take()
    got: list[Session] = []
    waiter = threading.Thread(target=lambda: got.append(pool.take()))
    waiter.start()
    wait_for_waiter(pool)
    session.usable = False
    pool.give(session)
    waiter.join(10)
    assert got == [opener.opened[1]]


def test_many_threads_never_share_a_session_nor_pass_the_size() -> None:
    opener = Opener()
    pool = Pool(RELAY, opener, size=3, wait_seconds=30)
    taken: set[Session] = set()
    trouble: list[str] = []

    def work() -> None:
        for _ in range(200):
            session = pool.take()
            if session in taken or len(taken) >= 3:
                trouble.append(f"{session} of {len(taken)}")
            taken.add(session)
            session.transactions += 1
            taken.discard(session)
            pool.give(session)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not trouble
    assert sum(session.transactions for session in opener.opened) == 8 * 200
    assert all(session.transactions <= RELAY.max_messages_per_connection for session in opener.opened)


def test_who_waits_may_open_in_the_place_of_a_failed_opening() -> None:
    opening, fail = threading.Event(), threading.Event()
    sessions = [Session(0)]

    def open_session() -> Session:
        if opening.is_set():
            return sessions[0]
        opening.set()
        fail.wait(10)
        raise ConnectFailed("main", "connection refused")

    def fail_to_take() -> None:
        with pytest.raises(ConnectFailed):
            pool.take()

    pool = Pool(RELAY, open_session, size=1, wait_seconds=10)
    first = threading.Thread(target=fail_to_take)
    first.start()
    assert opening.wait(10)
    got: list[Session] = []
    waiter = threading.Thread(target=lambda: got.append(pool.take()))
    waiter.start()
    wait_for_waiter(pool)
    fail.set()
    waiter.join(5)
    first.join(5)
    assert got == sessions


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # the danger that the test is about
def test_a_forked_child_forgets_what_it_inherited_without_a_quit() -> None:
    opener = Opener()
    pool = Pool(RELAY, opener, size=2)
    idle, busy = pool.take(), pool.take()
    pool.give(idle)
    held, forked = threading.Event(), threading.Event()

    def hold_the_lock() -> None:
        with pool._changed:
            held.set()
            forked.wait(30)

    holder = threading.Thread(target=hold_the_lock)
    holder.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:  # pragma: no cover - the child's coverage is lost with it
        good = False
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)  # a deadlock ends the child
            fresh = pool.take()
            good = fresh is opener.opened[2] and idle.closed == [False] and not busy.closed
            good = good and repr(pool) == "<Pool relay=main idle=0 busy=1 max=2>"
        finally:
            os._exit(0 if good else 1)
    forked.set()
    holder.join(10)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert not idle.closed
    assert pool.take() is idle


def wait_for_waiter(pool: Pool[Session]) -> None:
    wait_until(lambda: bool(pool._changed._waiters), "somebody waits for a session")  # type: ignore[attr-defined]
