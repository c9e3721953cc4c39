"""What every ledger promises of templates: versions by their content, and which of them are published."""

import threading

import pytest

from dispatcher.delivery import Actor
from dispatcher.errors import NotFound
from dispatcher.records import Publication
from dispatcher.template import TemplateVersion
from tests.ledgers import ANNA, Kept

BOB = Actor("bob", "desk-8")


def version(name: str, text: str = "Hi 李雷") -> TemplateVersion:
    return TemplateVersion(name, {"subject.txt": "S", "body.txt": text})


def test_a_template_version_is_kept_once_under_its_digest(kept: Kept) -> None:
    kept.ledger.put_template("d" * 64, "welcome", {"body.txt": "Hi 李雷"})
    kept.ledger.put_template("d" * 64, "other", {})
    assert kept.ledger.template("d" * 64) == ("welcome", {"body.txt": "Hi 李雷"})
    with pytest.raises(NotFound, match="no template version"):
        kept.ledger.template("e" * 64)


def test_what_is_published_is_kept_whole_and_names_who_did_it(kept: Kept) -> None:
    assert kept.ledger.publications() == {}
    welcome, birthday = version("welcome"), version("birthday")
    made = kept.ledger.publish([welcome, birthday], ANNA)
    assert [(each.name, each.digest) for each in made] == [("birthday", birthday.digest), ("welcome", welcome.digest)]
    assert {(each.actor, each.reason) for each in made} == {("anna@desk-7", "asked by the customer")}
    assert kept.ledger.publications() == {"birthday": made[0], "welcome": made[1]}
    assert list(kept.ledger.publications()) == ["birthday", "welcome"]
    assert kept.ledger.template(welcome.digest) == ("welcome", dict(welcome.files))


def test_publishing_the_same_again_changes_nothing(kept: Kept) -> None:
    kept.ledger.publish([version("welcome")], ANNA)
    before = kept.ledger.publications()
    kept.age(60)
    aged = kept.ledger.publications()["welcome"]
    assert kept.ledger.publish([version("welcome")], BOB) == []
    assert kept.ledger.publications() == {"welcome": aged}
    assert (aged.digest, aged.actor) == (before["welcome"].digest, "anna@desk-7")
    assert len(kept.ledger.acts()) == 1


def test_only_what_changed_is_answered_and_an_older_version_may_come_back(kept: Kept) -> None:
    first, second, other = version("welcome", "1"), version("welcome", "2"), version("birthday")
    kept.ledger.publish([first, other], ANNA)
    (made,) = kept.ledger.publish([second, other], BOB)
    assert (made.name, made.digest, made.actor) == ("welcome", second.digest, "bob@desk-8")
    assert [each.digest for each in kept.ledger.publish([first, other], ANNA)] == [first.digest]
    assert kept.ledger.publications()["welcome"].digest == first.digest
    assert kept.ledger.template(second.digest)[1]["body.txt"] == "2"


def test_each_template_that_changes_is_an_act(kept: Kept) -> None:
    welcome, birthday = version("welcome"), version("birthday")
    kept.ledger.publish([welcome, birthday], ANNA)
    assert [(act.actor, act.act, act.subject, act.count, act.reason) for act in kept.ledger.acts()] == [
        ("anna@desk-7", "publish", f"welcome {welcome.digest[:12]}", 1, "asked by the customer"),
        ("anna@desk-7", "publish", f"birthday {birthday.digest[:12]}", 1, "asked by the customer"),
    ]


def test_publishing_nothing_changes_nothing(kept: Kept) -> None:
    assert kept.ledger.publish([], ANNA) == []
    assert kept.ledger.acts() == []


def test_of_publishers_at_the_same_time_one_changes_each_template(kept: Kept) -> None:
    names = [f"t{n}" for n in range(10)]
    for text in "abc":
        versions = [version(name, text) for name in names]
        answers, gate = list[list[Publication]](), threading.Barrier(4)

        def work(order: list[TemplateVersion], answers: list[list[Publication]], gate: threading.Barrier) -> None:
            gate.wait(30)
            answers.append(kept.ledger.publish(order, ANNA))

        orders = [versions, versions[::-1], versions, versions[::-1]]
        threads = [threading.Thread(target=work, args=(order, answers, gate)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4
        assert sorted(each.name for answer in answers for each in answer) == names
    assert len(kept.ledger.acts()) == 30
