"""The check before a campaign starts: everything that would go wrong is said before anything is sent."""

from dataclasses import replace
from typing import Any

import pytest

from dispatcher.suppression import Reason, Suppression
from tests.campaigns import FILES, SPEC, Show

IN_CHINA: dict[str, Any] = {"name": "李雷", "country": "CN"}


def test_a_good_one_is_checked_with_a_version_of_audience_and_template() -> None:
    show = Show()
    assert show.findings() == [
        ("ok", "recipients", "2, of whom 0 are suppressed"),
        ("ok", "mails", "1 rendered, one or two for each shape of the data; up to 0 kB"),
    ]
    checked = show.campaign.checked or {}
    assert (checked["ok"], checked["recipients"], checked["invalid"], checked["audience"]) == (True, 2, 0, 1)
    assert len(checked["template"]) == 64
    assert show.transport.sent == []


def test_rows_that_lack_what_the_template_needs_are_named() -> None:
    people = [{"name": f"P{n}"} if n not in (3, 5, 8) else {"city": "Rome"} for n in range(20)]
    found = Show(*people).findings()
    assert found[0] == ("fail", "data", "data.name: is missing, for 3 people (row 5, 7, 10)")


def test_they_may_be_set_aside() -> None:
    show = Show({"name": "Ann"}, {"city": "Rome"})
    found = show.findings(without_invalid=True)
    assert ("warn", "data", "data.name: is missing, for 1 person (row 3)") in found
    assert (show.campaign.checked or {})["ok"]


def test_no_more_than_the_first_rows_are_named() -> None:
    found = Show(*[{"city": "Rome"}] * 9, {"name": "Ann"}).findings()
    assert found[0] == ("fail", "data", "data.name: is missing, for 9 people (row 2, 3, 4, 5, 6, ...)")


def test_every_shape_of_the_data_is_rendered() -> None:
    show = Show({"name": "Ann"}, {"name": "Bob", "city": "Rome"}, {"name": "Cem", "city": "Izmir and beyond"})
    show.files = {**FILES, "body.html": FILES["body.html"] + "{% if city is defined %}{{ town }}{% endif %}"}
    assert show.findings()[0] == (
        "fail", "template", "newsletter/body.html:1: 'town' is undefined (rendered for row 3, 4)",
    )  # fmt: skip


def test_a_mail_without_a_way_out_is_not_sent() -> None:
    show = Show()
    show.files = {**FILES, "body.html": "<p>Hi</p>", "body.txt": "Hi"}
    found = show.findings()
    assert ("fail", "unsubscribe", "the HTML has no link to {{ unsubscribe_url }} (rendered for row 2)") in found
    assert ("warn", "unsubscribe", "the text has no {{ unsubscribe_url }} (rendered for row 2)") in found


def test_an_image_without_a_text_and_a_mail_that_is_cut_off_are_warned_of() -> None:
    show = Show()
    image = '<img src="https://e.example/a.png"><img src="https://e.example/b.png" alt="">'
    show.files = {**FILES, "body.html": FILES["body.html"] + image + "<!-- x -->" + "<p>word</p>" * 12_000}
    found = show.findings()
    assert ("warn", "images", "no alt text: https://e.example/a.png (rendered for row 2)") in found
    assert found[1][:2] == ("warn", "size")
    assert "Gmail cuts it off after 102 kB" in found[1][2]
    assert (show.campaign.checked or {})["ok"]


@pytest.mark.parametrize(
    "person",
    [
        IN_CHINA, {"name": "x", "country": " china "}, {"name": "x", "country": "中国"},
        {"name": "x", "zone": "Asia/Shanghai"},
    ],
)  # fmt: skip
def test_a_subject_for_china_says_that_it_is_advertising(person: dict[str, Any]) -> None:
    found = Show({"name": "Ann"}, person).findings()
    assert found[0] == ("fail", "China", "a subject for China has neither AD nor 广告 (rendered for row 3)")


def test_a_word_that_only_holds_it_does_not_say_so() -> None:
    found = Show(IN_CHINA).findings(replace(SPEC, data={"title": "READY FOR SPRING"}))
    assert found[0][:2] == ("fail", "China")


@pytest.mark.parametrize("title", ["(AD) Spring", "广告 Spring"])
def test_one_that_says_so_may_go(title: str) -> None:
    show = Show(IN_CHINA)
    assert not [each for each in show.findings(replace(SPEC, data={"title": title})) if each[0] == "fail"]


def test_the_suppressed_are_counted() -> None:
    show = Show()
    show.ledger.suppressions.add([Suppression("p2@example.com", "list:news", Reason.UNSUBSCRIBE)])
    assert show.findings()[0] == ("ok", "recipients", "2, of whom 1 are suppressed")


def test_an_audience_of_which_nobody_is_left_is_refused() -> None:
    assert Show().findings(replace(SPEC, where=("age>=18",)))[0] == (
        "fail",
        "recipients",
        "0, of whom 0 are suppressed",
    )


def test_a_language_that_the_template_does_not_speak_is_warned_of() -> None:
    found = Show({"name": "Ann", "locale": "fr"}, {"name": "Bo", "locale": "zh-CN"}).findings()
    assert found[0] == ("warn", "locale", "the template does not speak fr: 1 person (row 2) get another")


def test_a_time_of_their_own_needs_a_zone_for_all() -> None:
    show = Show({"name": "Ann"}, {"name": "Bo", "zone": "Asia/Tokyo"})
    assert show.findings(replace(SPEC, start="2030-01-01T09:00"))[0] == (
        "fail", "zone", "no time zone: 1 person (row 2); name one for them with --zone",
    )  # fmt: skip


def test_with_a_zone_for_the_others_it_may_go() -> None:
    show = Show({"name": "Ann"}, {"name": "Bo", "zone": "Asia/Tokyo"})
    assert show.findings(replace(SPEC, hours="09:00-18:00", zone="Europe/Rome"))[0][0] == "ok"


def test_a_start_that_is_over_is_warned_of() -> None:
    show = Show({"name": "Ann"})
    found = show.findings(replace(SPEC, start="2026-01-01T09:00", zone="UTC"))
    assert found[0] == ("warn", "start", "2026-01-01T09:00 is over for everybody: it goes as soon as it is started")


def test_memory_stays_flat_however_many_shapes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.preflight.MAX_SHAPES", 2)
    people = [{"name": "A"}, {"name": "B", "city": "x"}, {"name": "C", "age": 3}, {"name": "D", "age": 4}]
    found = Show(*people).findings()
    assert ("warn", "shapes", "more than 2: 2 people have one that was not rendered") in found
