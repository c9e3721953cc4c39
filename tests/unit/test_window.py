"""No span of a window's length ever holds more than its limit, whoever asks, whenever, and however late the answers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.window import CALLBACK, HORIZON, MICRO, PATIENCE, Slate, micros
from tests.limits import most, rate

START = 1_700_000_000 * MICRO
WINDOWS = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from([0.5, 1.0, 2.0, 5.0, 60.0])), min_size=1, max_size=3
).filter(lambda found: len({seconds for _, seconds in found}) == len(found))
# Seconds until somebody asks again, how many messages they want, of how many recipients, how many of the slots they
# use, and how late (as a part of the margin) the relay answers.
ASKS = st.lists(
    st.tuples(
        st.floats(0, 3), st.integers(1, 30), st.integers(1, 4), st.integers(0, 30), st.floats(0, 1), st.booleans()
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(WINDOWS, ASKS)
def test_no_window_is_ever_exceeded(windows: list[tuple[int, float]], asks: list[tuple]) -> None:  # type: ignore[type-arg]
    terms = rate(*windows)
    slate, now, answers = Slate(terms), START, list[int]()
    margin = min(micros(window.margin) for window in terms.windows)
    for pause, wanted, recipients, used, late, at_once in asks:
        now += micros(pause)
        each = min(recipients, terms.smallest)
        slots = slate.take(now, wanted, each).moments
        assert all(now <= slot <= now + HORIZON for slot in slots)
        answers += [slot + int(margin * late) for slot in slots[:used] for _ in range(each)]
        if at_once:
            slate.give_back(slots[used:], each)
    for window in terms.windows:
        assert most(answers, micros(window.seconds)) <= window.limit


@settings(max_examples=60, deadline=None)
@given(WINDOWS, st.integers(1, 4))
def test_the_wait_is_exact(windows: list[tuple[int, float]], recipients: int) -> None:
    terms = rate(*windows)
    each = min(recipients, terms.smallest)
    slate, now = Slate(terms), START
    for _ in range(30):
        slots = slate.take(now, 100, each)
        if slots.moments:
            now += HORIZON
            continue
        assert slots.full in terms.windows
        assert not slate.take(now + slots.wait - HORIZON - 1, 1, each).moments
        assert slate.take(now + slots.wait - HORIZON, 1, each).moments == [now + slots.wait]
        now += slots.wait


def test_a_steady_taker_uses_nearly_all_of_a_long_window() -> None:
    slate, now, granted = Slate(rate((20, 1.0), (500, 60.0))), START, list[int]()
    while now < START + 180 * MICRO:
        granted += slate.take(now, 5, 1).moments
        now += micros(0.1)
    assert len([slot for slot in granted if slot < START + 180 * MICRO]) >= 1455
    assert most(granted, 60 * MICRO) <= 500
    assert most(granted, MICRO) <= 20


def test_slots_of_a_paced_window_are_even_and_a_message_of_many_takes_the_room_of_many() -> None:
    slate = Slate(rate((10, 1.0)))
    pace = micros(rate((10, 1.0)).windows[0].pace)
    assert slate.take(START, 3, 1).moments == [START, START + pace, START + 2 * pace]
    assert slate.take(START, 1, 5).moments == [START + 3 * pace]
    assert slate.take(START, 1, 1).moments == [START + 8 * pace]
    assert slate.used(START) == [9]


def test_what_was_granted_last_and_not_used_is_granted_again() -> None:
    slate = Slate(rate((5, 1.0)))
    slots = slate.take(START, 4, 1).moments
    slate.give_back(slots[2:], 1)
    assert slate.take(START, 2, 1).moments == slots[2:4]


def test_a_message_of_many_recipients_goes_first_when_it_has_waited_long_enough() -> None:
    slate = Slate(rate((10, 60.0)))
    assert len(slate.take(START, 1, 1).moments) == 1
    refused = slate.take(START, 1, 10)
    assert not refused.moments
    assert len(slate.take(START + micros(30), 5, 1).moments) == 5  # not yet
    now = START + PATIENCE + micros(2)
    refused = slate.take(now, 1, 10)
    assert not refused.moments
    assert slate.take(now, 1, 1) == ([], MICRO, None)
    assert slate.take(now + refused.wait, 1, 10).moments
    assert slate.take(now + refused.wait, 1, 1).full is not None


def test_nobody_waits_for_a_message_of_many_that_does_not_come_again() -> None:
    slate = Slate(rate((10, 60.0)))
    slate.take(START, 1, 1)
    wait = slate.take(START, 1, 10).wait
    assert slate.take(START + wait + CALLBACK, 1, 1).moments
