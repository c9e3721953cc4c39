"""A campaign's own brake: when it stops, and when not."""

from dispatcher.brake import LOOKED_AT, REFUSED, STREAK, Brake, fed
from dispatcher.delivery import Settlement, State


def said(code: int | None, text: str = "", enhanced: str | None = None, count: int = 1) -> list[Settlement]:
    """So many replies. They differ in what always differs: the address, a queue's number."""
    return [
        Settlement(n, n, State.SENT, attempted=True, code=code, text=text.format(n=n), enhanced=enhanced, phase="final")
        for n in range(count)
    ]


OK = said(250, "queued as A{n}F")[0]


def mixed(refusals: int, total: int) -> list[Settlement]:
    """So many refusals among so many replies, each with a text of its own."""
    words = [f"{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}{'uvwxyz'[n // 100]}" for n in range(refusals)]
    bad = [said(550, f"no such user {word}", "5.1.1")[0] for word in words]
    return [*bad, *[OK] * (total - refusals)]


def test_a_few_dead_addresses_stop_nothing() -> None:
    assert fed(Brake(), mixed(REFUSED, LOOKED_AT))[1] == ""


def test_more_than_one_in_twenty_of_the_last_replies_stop_it() -> None:
    brake, reason = fed(Brake(), mixed(REFUSED + 1, LOOKED_AT))
    assert reason == f"{REFUSED + 1} of the last {LOOKED_AT} replies were refusals"
    assert len(brake.replies) == LOOKED_AT


def test_it_does_not_wait_for_the_five_hundredth_reply() -> None:
    assert fed(Brake(), mixed(REFUSED + 1, 60))[1] == f"{REFUSED + 1} of the last 60 replies were refusals"


def test_what_is_long_ago_is_forgotten() -> None:
    brake, _ = fed(Brake(), mixed(REFUSED, REFUSED))
    brake, reason = fed(brake, [OK] * LOOKED_AT)
    assert (reason, brake.replies.count("1")) == ("", 0)
    assert fed(brake, mixed(REFUSED, REFUSED))[1] == ""


def test_the_same_answer_again_and_again_stops_it_although_addresses_and_numbers_differ() -> None:
    deferred = said(451, "try later <p{n}@example.com> (queue {n}AB)", "4.7.1", STREAK)
    brake, reason = fed(Brake(), deferred[:-1])
    assert (brake.streak, reason) == (STREAK - 1, "")
    brake, reason = fed(brake, deferred[-1:])
    assert (
        reason
        == f"{STREAK} replies in a row said: 451 4.7.1 try later <p{STREAK - 1}@example.com> (queue {STREAK - 1}AB)"
    )


def test_a_mail_that_comes_through_ends_the_row() -> None:
    deferred = said(451, "try later", count=STREAK - 1)
    assert fed(Brake(), [*deferred, OK, *deferred])[1] == ""


def test_other_words_begin_another_row() -> None:
    assert fed(Brake(), [*said(451, "try later", count=40), *said(452, "no room", count=40)])[1] == ""


def test_a_quota_that_is_used_up_stops_it_at_the_first_word() -> None:
    quota = said(550, "Daily user sending quota exceeded", "5.4.5")
    assert fed(Brake(), quota)[1] == "the relay lets no more through: 550 5.4.5 Daily user sending quota exceeded"


def test_an_account_that_is_closed_stops_it_at_the_first_word() -> None:
    assert fed(Brake(), said(535, "authentication failed", "5.7.8"))[1].startswith("the relay lets no more through")


def test_silence_is_no_reply() -> None:
    assert fed(Brake(), said(None, "connection lost", count=100)) == (Brake(), "")
