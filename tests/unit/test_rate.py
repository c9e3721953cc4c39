import pytest

from dispatcher.errors import ConfigurationError
from dispatcher.rate import Rate, Window
from dispatcher.relay import Relay


def test_windows_are_read_shortest_first() -> None:
    rate = Rate.parse(["50000/day", "14/s", " 2000 / h "], "relays.main.rate")
    assert rate.windows == (Window(14, 1, "14/s"), Window(2000, 3600, "2000/h"), Window(50000, 86400, "50000/day"))
    assert not Rate.parse([], "relays.main.rate")


@pytest.mark.parametrize("text", ["14", "14/x", "0/s", "-1/s", "1.5/s", "", "/s", "14/s 15/s"])
def test_what_is_no_rate_is_named_with_its_setting(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"relays\.main\.rate: .* is no rate: write 14/s"):
        Rate.parse([text], "relays.main.rate")


@pytest.mark.parametrize("texts", [["14/s", "10/min"], ["14/s", "15/s"], ["5/m", "5/min"], ["2000/h", "50/d"]])
def test_a_rate_that_contradicts_itself_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"relays\.main\.rate: contradicts itself"):
        Rate.parse(texts, "relays.main.rate")


def test_a_share_is_never_more_than_its_part_and_never_nothing() -> None:
    rate = Rate.parse(["3/s", "500/min"], "rate")
    assert rate.share(8).windows == (Window(1, 8 / 3, "3/s"), Window(62, 60, "500/min"))
    assert rate.share(1) == rate


def test_only_windows_up_to_a_second_are_paced_and_every_window_has_its_margin() -> None:
    second, minute, day = Rate.parse(["20/s", "500/min", "50000/d"], "rate").windows
    assert (second.pace, minute.pace, day.pace) == (pytest.approx(1.105 / 20), 0, 0)
    assert (second.margin, minute.margin, day.margin) == (0.1, 0.6, 1.0)


def test_bulk_leaves_a_part_of_the_longer_windows_to_what_is_urgent() -> None:
    rate = Rate.parse(["20/s", "60/min", "2000/h", "50000/day"], "rate").behind()
    assert [window.limit for window in rate.windows] == [20, 59, 1980, 49500]
    assert [window.limit for window in Rate.parse(["5/min"], "rate").behind().windows] == [5]


def test_bulk_leaves_one_connection() -> None:
    relays = [Relay("main", "h", 25, max_connections=most).behind() for most in (None, 1, 2, 10)]
    assert [relay.max_connections for relay in relays] == [None, 1, 1, 9]
