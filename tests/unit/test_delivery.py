"""The transition table of a delivery."""

from dispatcher.delivery import LIVE, SETTLED, TRANSITIONS, WAITING, Lane, State


def test_every_state_has_its_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    reachable = {state for row in TRANSITIONS.values() for state in row}
    assert set(State) == reachable


def test_only_what_waits_is_suppressed() -> None:
    assert {state for state, row in TRANSITIONS.items() if State.SUPPRESSED in row} == WAITING


def test_sent_is_final() -> None:
    assert not TRANSITIONS[State.SENT]


def test_what_is_settled_leaves_only_for_another_try() -> None:
    for state in SETTLED:
        assert TRANSITIONS[state] <= {State.QUEUED}


def test_only_what_waits_can_be_leased() -> None:
    leasable = {state for state, row in TRANSITIONS.items() if State.LEASED in row}
    assert leasable == WAITING
    assert set(State) == {*LIVE, *SETTLED}


def test_a_lane_is_a_queue_of_its_own() -> None:
    assert [lane.queue for lane in Lane] == ["mail.transactional", "mail.bulk"]
