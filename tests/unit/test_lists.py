"""Mail for a list: who may get it, how one leaves it, and that every attempt says the same."""

from collections import Counter
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.compose import Sources, compose
from dispatcher.delivery import Lane, LeasedMessage, Selector, State
from dispatcher.errors import ConfigurationError, SubmissionError
from dispatcher.mail import Recipient, Submission
from dispatcher.render import Template
from dispatcher.suppression import MARKETING, Reason, Suppression, of_list
from dispatcher.template import TemplateVersion
from dispatcher.unsubscribe import read
from tests.ledgers import lease
from tests.stage import FILES, Stage

NEW, OLD = "n" * 32, "o" * 32
URL = "https://mail.example.com/m"
NEWS = {"list": "news", "lane": "bulk"}


def stage(**policy: Any) -> Stage:
    return Stage(**{"secret_keys": (OLD,), "public_url": URL, **policy})


def taken(of: Stage) -> LeasedMessage:
    return lease(of.ledger, Lane.BULK).messages[0]


def composed(leased: LeasedMessage, *keys: str) -> EmailMessage:
    sources = Sources(template=lambda _: greeting(FILES), blob=lambda _: b"", keys=keys or (OLD,))
    return message_from_bytes(compose(leased, sources).content, policy=policy.default)  # type: ignore[return-value]


def greeting(files: dict[str, str]) -> Template:
    return Template(TemplateVersion("greeting", files))


def link(mail: EmailMessage) -> str:
    text = str(mail["List-Unsubscribe"])
    assert text.startswith(f"<{URL}/unsubscribe/")
    assert text.endswith(">")
    return text[1:-1]


def token(mail: EmailMessage) -> str:
    return link(mail).rpartition("/")[2]


# -- submitting


@pytest.mark.parametrize(
    "fields",
    [
        {"to": ["ada@example.com", "bob@example.com"]},
        {"to": [], "cc": ["ada@example.com"]},
        {"cc": ["bob@example.com"]},
        {"bcc": ["bob@example.com"]},
        {"to": []},
    ],
)
def test_mail_of_a_list_goes_to_one_recipient_at_a_time(fields: dict[str, Any]) -> None:
    with pytest.raises(SubmissionError) as caught:
        stage().submit(**NEWS, **fields)
    assert caught.value.field == "list"


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a\n"])
def test_a_list_that_has_no_name_is_refused(name: str) -> None:
    with pytest.raises(SubmissionError, match="list"):
        stage().submit(list=name)


def test_a_list_that_is_no_text_is_refused() -> None:
    with pytest.raises(SubmissionError, match="list: must be a string"):
        stage().submit(list=7)


def test_the_python_value_has_it_too() -> None:
    of = stage()
    mail = Submission(
        subject="Hi", text="Hello", list="news", recipients=[Recipient("ada@example.com"), Recipient("bob@example.com")]
    )
    assert of.dispatcher.submit(mail).accepted == 2
    assert mail.document()["list"] == "news"


def test_mail_of_no_list_is_as_it_was() -> None:
    of = stage()
    of.submit(lane="bulk")
    leased = taken(of)
    assert "unsubscribe" not in leased.shared
    assert composed(leased, NEW)["List-Unsubscribe"] is None


def test_the_list_is_part_of_the_content_that_a_key_stands_for() -> None:
    of = stage()
    first = of.submit(idempotency_key="k", lane="bulk", list="news")
    assert of.submit(idempotency_key="k", lane="bulk", list="news").duplicate
    with pytest.raises(SubmissionError, match=f"{first.id}, whose content differs in: list"):
        of.submit(idempotency_key="k", lane="bulk")


# -- composing


def test_each_mail_says_how_its_recipient_leaves_the_list() -> None:
    of = stage()
    of.dispatcher.submit(
        {"subject": "Hi", "text": "Hello", **NEWS, "recipients": [{"to": "Ada@Example.com"}, {"to": "李 <li@x.org>"}]}
    )
    mails = [composed(each) for each in lease(of.ledger, Lane.BULK).messages]
    assert [read(token(mail), [OLD]) for mail in mails] == [("Ada@example.com", "news"), ("li@x.org", "news")]
    assert {str(mail["List-Unsubscribe-Post"]) for mail in mails} == {"List-Unsubscribe=One-Click"}


def test_every_attempt_says_the_same_after_a_new_key_and_a_new_address() -> None:
    of = stage()
    of.submit(**NEWS)
    leased = taken(of)
    first = composed(leased, OLD)
    assert composed(leased, NEW, OLD).as_bytes() == first.as_bytes()
    assert link(first).startswith(URL)


def test_new_mail_is_signed_by_the_first_key() -> None:
    of = stage(secret_keys=(NEW, OLD))
    of.submit(**NEWS)
    assert read(token(composed(taken(of), NEW, OLD)), [NEW])


def test_when_its_key_is_gone_the_first_one_signs() -> None:
    of = stage()
    of.submit(**NEWS)
    assert read(token(composed(taken(of), NEW)), [NEW]) == ("ada@example.com", "news")


def test_without_any_key_it_is_not_sent_without_a_link() -> None:
    of = stage()
    of.submit(**NEWS)
    leased = taken(of)
    with pytest.raises(ConfigurationError, match="DISPATCHER_SECRET_KEYS"):
        compose(leased, Sources(template=Template, blob=lambda _: b""))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["List-Unsubscribe", "list-unsubscribe"])
def test_a_producer_that_says_how_to_leave_has_the_last_word(name: str) -> None:
    of = stage()
    of.submit(**NEWS, headers={name: "<https://crm.example.com/leave/7>"})
    mail = composed(taken(of))
    assert mail.get_all("List-Unsubscribe") == ["<https://crm.example.com/leave/7>"]
    assert mail["List-Unsubscribe-Post"] is None  # theirs may not know of one click


def test_a_template_may_show_the_link() -> None:
    of = stage()
    files = {
        **FILES,
        "body.txt": "{% if unsubscribe_url is defined %}Leave: {{ unsubscribe_url }}{% else %}Hi{% endif %}",
    }
    of.submit(template="greeting", data={"name": "Ada"}, subject=None, text=None, **NEWS)
    leased = taken(of)
    message = compose(leased, Sources(template=lambda _: greeting(files), blob=lambda _: b"", keys=(OLD,)))
    mail = message_from_bytes(message.content, policy=policy.default)
    assert mail.get_content().strip() == f"Leave: {link(mail)}"  # type: ignore[attr-defined, arg-type]


@pytest.mark.parametrize("name", TemplateFolder(shipped()).names())
@pytest.mark.parametrize(("locale", "word"), [("en", "Unsubscribe"), ("zh", "退订")])
def test_every_shipped_template_shows_it_where_there_is_one(name: str, locale: str, word: str) -> None:
    template = Template(TemplateFolder(shipped()).load(name))
    data = template.sample(locale)
    plain, listed = template.render(locale, data), template.render(locale, {**data, "unsubscribe_url": f"{URL}/u/t"})
    assert f'href="{URL}/u/t"' in str(listed.html)
    assert f"{URL}/u/t" in listed.text
    assert word in listed.text
    assert word in str(listed.html)
    assert word not in plain.text + str(plain.html)


# -- suppressed


def test_who_left_gets_no_more_of_it_but_an_order_confirmation() -> None:
    of = stage()
    before = of.submit(**NEWS)
    of.dispatcher.suppressions.add([Suppression("ADA@example.com", of_list("news"), Reason.UNSUBSCRIBE)])
    assert of.submit(**NEWS).suppressed == 1
    assert of.submit(list="offers", lane="bulk").suppressed == 0
    assert of.submit().suppressed == 0
    of.deliver(Lane.BULK)
    of.deliver()
    assert Counter(of.states()) == {State.SUPPRESSED: 2, State.SENT: 2}
    (held,) = of.ledger.find(Selector(ids=(before.id,)))
    assert held.text == "scope list:news, reason unsubscribe"
    assert len(of.bells.rung) == 3  # not for the one who had left


def test_a_worker_goes_on_behind_a_batch_that_is_suppressed_as_a_whole() -> None:
    of = stage(batch_size=5)
    names = [f"{n:02}@example.com" for n in range(12)]
    for each in names:
        of.submit(to=[each], **NEWS)
    of.dispatcher.suppressions.add([Suppression(each, MARKETING, Reason.HAND) for each in names[:10]])
    assert of.deliver(Lane.BULK) == 2
    assert Counter(of.states()) == {State.SUPPRESSED: 10, State.SENT: 2}
