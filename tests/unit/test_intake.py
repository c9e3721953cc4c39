"""From a producer's JSON to an accepted submission: what is taken, and how each fault is named."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dispatcher import intake
from dispatcher.errors import InvalidAddress, MessageTooLarge, MissingData, SubmissionError, UnknownTemplate
from dispatcher.head import Context
from dispatcher.mail import Accepted, Attachment, Recipient, Submission
from dispatcher.render import Template
from dispatcher.template import TemplateVersion
from dispatcher.written import Written, encode

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
META = """
description = "A test"
[schema]
type = "object"
required = ["name"]
[schema.properties.name]
type = "string"
[schema.properties.link]
type = "string"
x-sensitive = true
[sample]
name = "Ada"
"""
GREETING = Template(TemplateVersion("greeting", {"meta.toml": META, "subject.txt": "Hi {{ name }}", "body.txt": "Hi"}))


def find(name: str) -> tuple[str, Template]:
    if name != "greeting":
        raise UnknownTemplate("template", f"no template {name!r}")
    return "digest", GREETING


def store(given: Mapping[str, Any], at: str) -> dict[str, Any]:
    stored = {
        "blob": given["content"],
        "size": len(given["content"]),
        "content_type": "text/plain",
        "filename": "a.txt",
    }
    return stored | ({"version": given["version"]} if "version" in given else {})


CONTEXT = Context(
    now=NOW,
    template=find,
    store=store,
    relays=("main",),
    lifetimes={"transactional": 86400.0, "bulk": 259200.0},
    sender="Shop <shop@example.com>",
    max_bytes=1000,
)
MAIL = {"template": "greeting", "data": {"name": "Ada"}, "to": ["ada@example.com"]}


def accept(document: Any = None, **changes: Any) -> Accepted:
    return intake.accept({**MAIL, **changes} if document is None else document, CONTEXT)


def refused(document: Any = None, **changes: Any) -> SubmissionError:
    with pytest.raises(SubmissionError) as caught:
        accept(document, **changes)
    return caught.value


def test_to_cc_and_bcc_are_one_message_and_each_address_gets_it_once() -> None:
    accepted = accept(cc=["ada@example.com", "bob@example.com"], bcc=["eve@example.com"])
    (message,) = accepted.messages
    assert [(d.rcpt, d.kind) for d in message.deliveries] == [
        ("ada@example.com", "to"),
        ("bob@example.com", "cc"),
        ("eve@example.com", "bcc"),
    ]
    assert message.own["cc"] == ["ada@example.com", "bob@example.com"]
    assert "bcc" not in message.own


def test_recipients_are_a_personal_message_each() -> None:
    accepted = accept(
        {
            "template": "greeting",
            "data": {"name": "all"},
            "recipients": [
                {"to": "a@example.com"},
                {"to": "李雷 <b@example.com>", "data": {"name": "B"}, "metadata": {"n": 1}},
            ],
        }
    )
    assert [m.deliveries[0].rcpt for m in accepted.messages] == ["a@example.com", "b@example.com"]
    assert accepted.shared["data"] == {"name": "all"}
    assert accepted.messages[1].own == {"to": ['"李雷" <b@example.com>'], "data": {"name": "B"}, "metadata": {"n": 1}}


def test_sensitive_variables_are_kept_apart() -> None:
    (message,) = accept(data={"name": "Ada", "link": "https://secret"}).messages
    assert (message.own["data"], message.secrets) == ({"name": "Ada"}, {"link": "https://secret"})


def test_the_python_values_and_the_json_are_the_same_submission() -> None:
    value = Submission(
        subject="Hi",
        text="x",
        from_="a@example.com",
        recipients=[Recipient("b@example.com")],
        attachments=[Attachment(content=b"hi", filename="a.txt")],
        tags=["t"],
    )
    document = {
        "subject": "Hi",
        "text": "x",
        "from": "a@example.com",
        "recipients": [{"to": "b@example.com"}],
        "attachments": [{"content": "aGk=", "filename": "a.txt"}],
        "tags": ["t"],
    }
    assert value.document() == document
    assert accept(value.document()) == accept(document)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"dat": {}}, "dat", "unknown field"),
        ({"to": "ada@example.com"}, "to", "must be a list, not a string"),
        ({"to": ["ada@example.com", 7]}, "to[1]", "must be a string, not a number"),
        ({"to": []}, "to", "at least one recipient"),
        ({"data": {}}, "data.name", "missing"),
        ({"data": {"name": 7}}, "data.name", "string"),
        ({"template": "greting"}, "template", "no template"),
        ({"subject": "Hi"}, "subject", "not both"),
        ({"locale": "klingon"}, "locale", "klingon"),
        ({"lane": "fast"}, "lane", "transactional, bulk"),
        ({"relay": "backup"}, "relay", "known are main"),
        ({"if_in_doubt": "pray"}, "if_in_doubt", "resend, hold"),
        ({"send_at": "tomorrow"}, "send_at", "ISO 8601"),
        ({"send_at": "2026-12-01T09:00:00"}, "send_at", "no offset"),
        ({"send_at": "0001-01-01T00:00:00Z"}, "send_at", "out of range"),
        ({"send_at": "2026-12-02T09:00:00Z", "expires_at": "2026-12-01T09:00:00Z"}, "expires_at", "not after"),
        ({"idempotency_key": ""}, "idempotency_key", "1 to 256"),
        ({"idempotency_key": "x" * 257}, "idempotency_key", "1 to 256"),
        ({"tags": ["a" * 65]}, "tags[0]", "1 to 64"),
        ({"headers": {"X-A": "a\r\nBcc: eve@example.com"}}, "headers.X-A", ""),
        ({"headers": {"Bcc": "eve@example.com"}}, "headers.Bcc", ""),
        ({"headers": {"X-A": 7}}, "headers.X-A", "must be a string"),
        ({"reply_to": ["nobody"]}, "reply_to[0]", ""),
        ({"mail_from": "bounces+{name}@example.com"}, "mail_from", "{id}"),
        ({"metadata": {"x": "y" * 9000}}, "metadata", "8192"),
        ({"attachments": [{"filename": "a"}]}, "attachments[0]", "exactly one"),
        ({"attachments": [{"content": "x", "colour": "red"}]}, "attachments[0].colour", "unknown field"),
        ({"recipients": [{"to": "b@example.com"}]}, "to", "not both"),
        ({"data": {"name": "\ud800"}}, "data", "surrogate"),
        ({"data": {"name": "x", "\udfff": 1}}, "data", "surrogate"),
        ({"tags": ["\ud800"]}, "tags", "surrogate"),
        ({"template": "\ud800"}, "template", "surrogate"),
        ({"data": {"name": object()}}, "data", "cannot be written as JSON"),
        ({"metadata": {"x": float("nan")}}, "metadata", "JSON"),
    ],
)
def test_a_fault_is_named_by_its_field(changes: dict[str, Any], field: str, reason: str) -> None:
    error = refused(**changes)
    assert error.field == field
    assert reason in error.reason


@pytest.mark.parametrize(
    ("recipient", "field"),
    [
        ({}, "recipients[1].to"),
        ({"to": "nobody"}, "recipients[1].to"),
        ({"to": "b@example.com", "data": {"name": 7}}, "recipients[1].data.name"),
        ({"to": "b@example.com", "cc": []}, "recipients[1].cc"),
        ({"to": "b@example.com", "locale": "xx-99-!"}, "recipients[1].locale"),
    ],
)
def test_a_fault_in_a_batch_names_the_recipient(recipient: dict[str, Any], field: str) -> None:
    batch = [{"to": "a@example.com", "data": {"name": "A"}}, recipient]
    first = {"name": "all"} if "data" not in recipient else {}
    assert refused({"template": "greeting", "data": first, "recipients": batch}).field == field


def test_the_kinds_of_errors_are_told_apart() -> None:
    assert isinstance(refused(to=["a b@"]), InvalidAddress)
    assert isinstance(refused(data={}), MissingData)
    assert isinstance(refused(template="x"), UnknownTemplate)
    assert isinstance(refused(attachments=[{"content": "x" * 900}]), MessageTooLarge)


@pytest.mark.parametrize("document", [None, [], "mail", 7])
def test_what_is_no_object_is_refused(document: Any) -> None:
    with pytest.raises(SubmissionError, match="JSON object"):
        intake.accept(document, CONTEXT)


def test_a_time_in_the_past_is_refused_but_not_a_clock_that_is_a_little_behind() -> None:
    late = accept(send_at="2026-11-23T11:58:00+00:00")
    with pytest.raises(SubmissionError, match=r"send_at: .* is in the past"):
        intake.check_times(late, NOW)
    intake.check_times(accept(send_at="2026-11-23T11:59:30+00:00"), NOW)
    with pytest.raises(SubmissionError, match=r"expires_at: .* is in the past"):
        intake.check_times(accept(expires_at="2026-11-23T11:59:30+00:00"), NOW)


def test_fingerprints_see_content_and_not_its_spelling() -> None:
    def prints(**changes: Any) -> dict[str, str]:
        return accept(idempotency_key="k", **changes).fingerprints

    same = prints()
    assert prints(to=["ada@EXAMPLE.com"])["to"] == same["to"]
    assert prints(cc=None) == same
    different = prints(data={"name": "Bob"})
    assert {name for name in same if same[name] != different[name]} == {"data"}


def test_fingerprints_are_the_ones_that_ledgers_keep_since_1_0() -> None:
    """A producer may repeat with this version what it submitted to an earlier one."""
    prints = accept(
        cc=['"李雷" <li@example.com>'],
        bcc=["z@example.com", "Y@example.com"],
        data={"name": "Zoë \0 \U0001f600", "b": [1, 2.5, None, True], "a": {"z": 1, "y": "\\ud800"}},
        attachments=[{"content": "aGk="}],
        mail_from="b+{id}@example.com",
        idempotency_key="k",
    ).fingerprints
    assert prints == {
        "attachments": "ca258dc8040de4374c",
        "bcc": "b8b2b583d286fc6bcf",
        "cc": "d6f39b5096dc6ba998",
        "data": "4db8edacff2fb603a4",
        "from": "5a2a0df4bb8a6d3084",
        "mail_from": "3825b83ada0993d029",
        "template": "ae1c2e69aceb65d8a0",
        "to": "d508068dad47044ec3",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"to": ['"李 \\"雷\\"" <li@example.com>'], "cc": ["a@example.com"], "bcc": ["b@example.com"]},
        {"data": {"name": "\0 é \U0001f600 \\ud800", "n": [1, {"x": None}]}},
        {"data": {"name": "Ada", "link": "https://secret"}},
        {"locale": "en", "mail_from": ""},
    ],
)
def test_what_is_written_on_the_way_is_what_is_meant(changes: dict[str, Any]) -> None:
    """The row of a ledger is made of this text, not of the values; secrets stand elsewhere."""
    accepted = accept(**changes)
    for content in (accepted.shared, accepted.messages[0].own):
        assert isinstance(content, Written)
        assert content.text == encode(dict(content))


def test_submissions_that_begin_alike_are_checked_alike() -> None:
    """Heads are shared by those that are accepted together, and by no others."""
    context = replace(CONTEXT, heads={})
    lanes = [intake.accept({**MAIL, **each}, context).lane for each in ({}, {"lane": "bulk"}, {})]
    assert lanes == ["transactional", "bulk", "transactional"]
    for _ in range(2):
        with pytest.raises(SubmissionError, match="relay"):
            intake.accept({**MAIL, "relay": "gone"}, context)


def test_an_attachments_version_is_compared_instead_of_its_bytes() -> None:
    def prints(**attachment: Any) -> str:
        return accept(idempotency_key="k", attachments=[attachment]).fingerprints["attachments"]

    assert prints(content="one") != prints(content="two")
    assert prints(content="one", version="7") == prints(content="two", version="7")
    assert prints(content="one", version="7") != prints(content="one", version="8")


def test_a_key_stands_in_where_the_document_names_none() -> None:
    assert intake.accept(MAIL, CONTEXT, key="task:1").key == "task:1"
    assert intake.accept({**MAIL, "idempotency_key": "own"}, CONTEXT, key="task:1").key == "own"
