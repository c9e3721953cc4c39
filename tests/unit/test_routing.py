"""Which relay takes a message."""

from dispatcher.routing import choose


def test_the_first_by_priority_takes_what_names_no_relay() -> None:
    assert choose(None, ("main", "backup"), set()) == "main"


def test_the_next_one_takes_over_while_the_first_is_paused() -> None:
    assert choose(None, ("main", "backup"), {"main"}) == "backup"


def test_a_named_relay_is_never_replaced() -> None:
    assert choose("main", ("main", "backup"), set()) == "main"
    assert choose("main", ("main", "backup"), {"main"}) is None
    assert choose("gone", ("main", "backup"), set()) is None


def test_with_all_relays_paused_there_is_none() -> None:
    assert choose(None, ("main",), {"main"}) is None
