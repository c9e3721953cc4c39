"""Templates are checked when compiled, data when submitted, and what goes wrong is named by its place."""

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from dispatcher import part
from dispatcher.adapters.folder import TemplateFolder, shipped
from dispatcher.errors import MissingData, RenderError, SubmissionError, TemplateError
from dispatcher.render import Template, compiled, fingerprint, merge
from dispatcher.template import TemplateVersion
from tests.markup import Markup

SHIPPED = TemplateFolder(shipped())
CASES = [(name, locale) for name in SHIPPED.names() for locale in ("en", "zh")]
META = """
[schema]
required = ["customer"]
[schema.properties.customer]
type = "object"
required = ["name", "mail"]
properties.name.type = "string"
[schema.properties.order.properties]
total = { type = ["string", "number"], format = "decimal" }
placed = { type = "string", format = "iso8601" }
currency = { type = "string", format = "currency" }
[schema.properties.order.properties.items.items]
required = ["quantity"]
properties.quantity = { type = "integer", minimum = 1 }
[schema.properties.token]
type = "string"
x-sensitive = true
[schema.properties.accounts.items.properties]
pin = { type = "string", x-sensitive = true }
[schema.properties.codes.items]
x-sensitive = true
"""


def template(**files: str | None) -> Template:
    """A template of these files; ``body_zh_html`` stands for ``body.zh.html``."""
    given = {"subject_txt": "S", "body_txt": "B", **files}
    return Template(TemplateVersion("t", {name.replace("_", "."): text for name, text in given.items() if text}))


def version(**files: str) -> TemplateVersion:
    return TemplateVersion("t", {"subject.txt": "S", "body.txt": "B", **files})


# --- compiling


@pytest.mark.parametrize(
    ("files", "where", "reason"),
    [
        ({"body.txt": "a\n{% if %}"}, "t/body.txt:2", "Expected an expression"),
        ({"body.html": "a\n\n{{ x | nosuch }}"}, "t/body.html:3", "No filter named 'nosuch'"),
        (
            {"body.html": '\n{% extends "_l/gone.html" %}'},
            "t/body.html:2",
            "'_l/gone.html' is no file of this template",
        ),
        ({"body.html": '{% extends "_l/b.html" %}', "_l/b.html": "x\n{% block %}"}, "_l/b.html:2", "expected token"),
        (
            {"body.html": '{% include "row.html" %}', "row.html": "\n\n{% endif %}"},
            "t/row.html:3",
            "unknown tag 'endif'",
        ),
        ({"body.txt": "{{ x | random }}"}, "t/body.txt:1", "No filter named 'random'"),
        ({"meta.toml": "a = 1\nb =\n"}, "t/meta.toml:2", "Invalid value"),
        ({"meta.toml": "sampel = {}"}, "t/meta.toml", "unknown key 'sampel'"),
        ({"meta.toml": "sample = 1"}, "t/meta.toml", "sample must be a table"),
        ({"meta.toml": 'default_locale = "klingon"'}, "t/meta.toml", "'klingon' is not a language tag"),
        ({"meta.toml": '[schema]\ntype = "objekt"'}, "t/meta.toml", "type is object"),
        ({"meta.toml": '[schema.properties.x]\ntype = "strin"'}, "t/meta.toml", "is no JSON Schema: Unknown type"),
        ({"meta.toml": '[schema.properties]\nx."$ref" = "http://127.0.0.1:9/x"'}, "t/meta.toml", "is not fetched"),
        ({"meta.toml": '[schema.properties]\nx."$ref" = "file:///etc/passwd"'}, "t/meta.toml", "is not fetched"),
        ({"meta.toml": "[[schema.anyOf]]\nproperties.x.x-sensitive = true"}, "t/meta.toml", "only under properties"),
        ({"meta.toml": '[schema.properties.x]\nx-sensitive = "yes"'}, "t/meta.toml", "only under properties"),
        ({"body.xx.txt": "x", "subject.xx.txt": "x"}, "t/body.xx.txt", "'xx' is not a locale"),
        ({"body.zh.txt": "x"}, "t/subject.zh.txt", "is missing"),
        ({"subject.zh.txt": "x"}, "t/body.zh.html", "is missing, and so is body.zh.txt"),
        ({"subject.html": "x"}, "t/subject.html", "one too many"),
        (
            {"subject.zh-CN.txt": "x", "subject.zh_CN.txt": "x", "body.zh-CN.txt": "x"},
            "t/subject.zh_CN.txt",
            "one too many",
        ),
    ],
)
def test_a_template_that_cannot_be_used_says_where_and_why(files: dict[str, str], where: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(version(**files))
    assert caught.value.where == where
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("files", [{"body.txt": "B"}, {"subject.txt": "S"}, {"subject.txt": "S", "meta.toml": ""}])
def test_a_template_needs_a_subject_and_a_body(files: dict[str, str]) -> None:
    with pytest.raises(TemplateError, match=r"^t/(subject\.txt|body\.html): is missing"):
        Template(TemplateVersion("t", files))


def test_the_digest_names_content_and_name() -> None:
    same = TemplateVersion("t", {"b": "2", "a": "1"})
    assert same.digest == TemplateVersion("t", {"a": "1", "b": "2"}).digest
    others = {TemplateVersion("u", {"a": "1", "b": "2"}).digest, TemplateVersion("t", {"a": "1", "b": "3"}).digest}
    assert same.digest not in others
    assert len(same.digest) == 64
    assert pickle.loads(pickle.dumps(same)).files == same.files


def test_a_version_is_compiled_once_while_it_is_in_use() -> None:
    loads: list[str] = []

    def loader(number: int) -> Callable[[], TemplateVersion]:
        def load() -> TemplateVersion:
            loads.append(str(number))
            return version(**{"note.txt": str(number)})

        return load

    first = compiled("digest 0", loader(0))
    for number in range(1, 64):
        compiled(f"digest {number}", loader(number))
    assert compiled("digest 0", loader(0)) is first
    compiled("digest 64", loader(64))  # the oldest, number 1, makes room
    compiled("digest 0", loader(0))
    compiled("digest 1", loader(1))
    assert loads == [*map(str, range(65)), "1"]


def test_the_fingerprint_names_what_decides_the_bytes() -> None:
    assert [word for word in fingerprint().split() if not word[0].isdigit()] == [
        "jinja2",
        "babel",
        "css-inline",
        "inscriptis",
    ]


# --- data


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        ({}, "data.customer", "is missing"),
        ({"customer": {}}, "data.customer.name", "is missing; so is mail"),
        ({"customer": {"name": "A"}}, "data.customer.mail", "is missing"),
        ({"customer": {"name": 3, "mail": ""}}, "data.customer.name", "must be of type string, and is a number"),
        ({"customer": []}, "data.customer", "must be of type object, and is an array"),
        (
            {"customer": {"name": "A", "mail": ""}, "order": {"total": "x"}},
            "data.order.total",
            "must be a decimal number such as 19.90",
        ),
        (
            {"customer": {"name": "A", "mail": ""}, "order": {"placed": "x"}},
            "data.order.placed",
            "must be an ISO 8601 date or time such as 2026-11-20T09:30:00+08:00",
        ),
        (
            {"customer": {"name": "A", "mail": ""}, "order": {"currency": "x"}},
            "data.order.currency",
            "must be an ISO 4217 currency code such as EUR or CNY",
        ),
        (
            {"customer": {"name": "A", "mail": ""}, "order": {"items": [{"quantity": 1}, {}]}},
            "data.order.items[1].quantity",
            "is missing",
        ),
        (
            {"customer": {"name": "A", "mail": ""}, "order": {"items": [{"quantity": 0}]}},
            "data.order.items[0].quantity",
            "must be bigger than or equal to 1",
        ),
        ({"customer": {"name": "A", "mail": ""}, "token": 7}, "data.token", "must be of type string, and is a number"),
    ],
)
def test_data_that_does_not_fit_is_named_by_its_full_path(data: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(MissingData) as caught:
        template(meta_toml=META).check(data)
    assert (caught.value.field, caught.value.reason) == (field, reason)
    with pytest.raises(MissingData) as caught:
        template(meta_toml=META).check(data, "recipients[3].data")
    assert caught.value.field == f"recipients[3].{field}"


def test_checking_leaves_the_data_alone() -> None:
    data: dict[str, Any] = {}
    template(meta_toml="[schema.properties.x]\ndefault = 3").check(data)
    assert data == {}


@pytest.mark.parametrize(
    ("data", "public", "secrets"),
    [
        ({"name": "A"}, {"name": "A"}, None),
        ({"name": "A", "token": "s"}, {"name": "A"}, {"token": "s"}),
        ({"token": ""}, {}, {"token": ""}),
        (
            {"accounts": [{"id": 1, "pin": "9"}, {"id": 2}]},
            {"accounts": [{"id": 1}, {"id": 2}]},
            {"accounts": [{"pin": "9"}, {}]},
        ),
        ({"codes": ["a", "b"]}, {"codes": [None, None]}, {"codes": ["a", "b"]}),
        ({"accounts": [], "codes": []}, {"accounts": [], "codes": []}, None),
    ],
)
def test_what_is_sensitive_is_parted_and_put_back(data: dict[str, Any], public: Any, secrets: Any) -> None:
    parted = template(meta_toml=META).split(data)
    assert parted == (public, secrets)
    assert merge(*parted) == data


# --- locales


def test_the_best_locale_that_exists_is_taken() -> None:
    made = template(subject_zh_txt="主题", body_zh_txt="正文", **{"subject_pt-BR_txt": "A", "body_pt-BR_txt": "B"})
    assert made.locales == ("en", "pt-BR", "zh")
    chosen = {tag: made.locale(tag) for tag in ("zh-CN", "zh_cn", "zh", "zh-Hans-CN", "pt_br", "pt", "de", "en-GB")}
    assert chosen == {
        "zh-CN": "zh",
        "zh_cn": "zh",
        "zh": "zh",
        "zh-Hans-CN": "zh",
        "pt_br": "pt-BR",
        "pt": "en",
        "de": "en",
        "en-GB": "en",
    }
    assert made.locale(None) == "en"


@pytest.mark.parametrize("tag", ["", "klingon", "xx", "../zh", "zh CN", "zh\n"])
def test_what_is_no_locale_is_the_producers_error(tag: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        template().locale(tag)
    assert caught.value.field == "locale"


@pytest.mark.parametrize(
    ("requested", "written"),
    [("en-GB", "20 November 2026 en-GB"), ("en", "November 20, 2026 en"), ("de", "November 20, 2026 en"),
     ("zh-CN", "2026年11月20日 zh-Hans-CN"), (None, "November 20, 2026 en")],
)  # fmt: skip
def test_dates_are_in_the_readers_locale_only_where_the_text_is_in_its_language(
    requested: str | None, written: str
) -> None:
    line = "{{ '2026-11-20' | date('long') }} {{ locale }}"
    assert template(subject_txt=line, subject_zh_txt=line, body_zh_txt="x").render(requested, {}).subject == written


def test_a_template_may_have_any_default_locale() -> None:
    made = template(meta_toml='default_locale = "de"', subject_txt="{{ 1.5 | number }}")
    assert made.locales == ("de",)
    assert made.render("en", {}).subject == "1,5"


# --- rendering


def test_html_is_escaped_and_text_is_not() -> None:
    made = template(subject_txt="{{ x }}", body_txt="{{ x }}", body_html="<p>{{ x }}</p>").render(
        None, {"x": "<A & B>"}
    )
    assert (made.subject, made.text, made.html) == ("<A & B>", "<A & B>\n", "<p>&lt;A &amp; B&gt;</p>")


def test_a_subject_is_one_line_whatever_the_data() -> None:
    made = template(subject_txt="  Order\n{{ x }}  \n").render(None, {"x": "1\r\nBcc: a@example.com\u2028\x00 2"})
    assert made.subject == "Order 1 Bcc: a@example.com 2"


def test_an_object_field_is_the_data_and_never_a_method() -> None:
    line = (
        "{{ order.items[0] }} {{ order.keys }} {{ order['values'] }} {% for k, v in plain | items %}{{ k }}{% endfor %}"
    )
    data = {"order": {"items": ["i"], "keys": "k", "values": "v"}, "plain": {"p": 1}}
    assert template(subject_txt=line).render(None, data).subject == "i k v p"


def test_text_is_derived_from_the_html_where_none_is_written() -> None:
    html = (
        "<html><head><title>no</title><style>p{}</style></head><body><div style='display:none'>no</div><h1>Hello</h1>"
        "<table><tr><td>Linen</td><td>$9</td></tr></table><p>Go <a href='https://e.example/x'>there</a></p></body></html>"
    )
    text = template(body_txt=None, body_html=html).render(None, {}).text
    assert "Hello" in text
    assert "Linen  $9" in text
    assert "[there](https://e.example/x)" in text
    assert "no" not in text.split()


def test_a_template_without_html_is_fine() -> None:
    assert template().render(None, {}).html is None


@pytest.mark.parametrize(
    ("files", "where", "reason"),
    [
        ({"body.txt": "a\n\n{{ nosuch }}"}, "t/body.txt:3", "'nosuch' is undefined"),
        ({"body.txt": "{{ order.nosuch }}"}, "t/body.txt:1", "'dict object' has no attribute 'nosuch'"),
        ({"subject.txt": " {{ empty }} "}, "t/subject.txt", "the subject is empty"),
        ({"body.txt": "\n{{ empty | money('USD') }}"}, "t/body.txt:2", "is not a decimal number such as 19.90"),
        ({"body.txt": "{{ nothing }}"}, "t/body.txt:1", "a null cannot be written"),
        ({"body.txt": "{{ 1 / 0 }}"}, "t/body.txt:1", "ZeroDivisionError"),
        ({"body.txt": "{{ ''.__class__.__mro__ }}"}, "t/body.txt:1", "access to attribute '__class__'"),
        ({"body.txt": "{{ [].append(1) }}"}, "t/body.txt:1", "access to attribute 'append'"),
        ({"body.txt": "{% for i in range(1000000000) %}{% endfor %}"}, "t/body.txt:1", "OverflowError"),
        ({"body.txt": "{% include which %}"}, "t/body.txt:1", "TemplateNotFound"),
        (
            {"body.html": "<html><style>p { top: 1px; }</style>\n\n<p>{{ nosuch }}</p>"},
            "t/body.html:3",
            "'nosuch' is undefined",
        ),
        ({"body.html": "<p class='{{ empty }}'>\n{{ nosuch }}</p>"}, "t/body.html:2", "'nosuch' is undefined"),
        (
            {
                "body.html": '\n{% extends "_l/b.html" %}\n{% block x %}\n{{ nosuch }}{% endblock %}',
                "_l/b.html": "{% block x %}{% endblock %}",
            },
            "t/body.html:4",
            "'nosuch' is undefined",
        ),
        (
            {
                "body.html": '{% extends "_l/b.html" %}',
                "_l/b.html": '<p>x</p>\n{% include "_l/c.html" %}',
                "_l/c.html": "\n\n{{ nosuch }}",
            },
            "_l/c.html:3",
            "'nosuch' is undefined",
        ),
    ],
)
def test_a_render_error_names_the_true_file_and_line(files: dict[str, str], where: str, reason: str) -> None:
    made = Template(version(**files))
    data: dict[str, Any] = {"order": {}, "empty": "", "nothing": None, "which": "/etc/passwd"}
    with pytest.raises(RenderError) as caught:
        made.render(None, data)
    assert caught.value.where == where
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_render_error_never_shows_a_secret() -> None:
    made = template(meta_toml=META, body_txt="{{ ({})[token] }}")
    with pytest.raises(RenderError) as caught:
        made.render(None, {"token": "s3cr3t-t0k3n"})
    assert "s3cr3t" not in str(caught.value)
    assert "[sensitive]" in caught.value.reason


def test_one_render_does_not_change_the_next() -> None:
    made = template(body_txt="{% set x = 1 %}{{ n }}{% set ns = namespace(a=n) %}{% set ns.a = 2 %}")
    assert [made.render(None, {"n": n}).text for n in (1, 2)] == ["1\n", "2\n"]


# --- the templates that ship


# What stands for the customer's name elsewhere.
NAMED = {"newsletter": "first_name", "campaign_report": "campaign", "report_sent": "report"}


@pytest.mark.parametrize(("name", "locale"), CASES)
def test_a_shipped_template_renders_its_sample_the_same_each_time(name: str, locale: str) -> None:
    made = shipped_template(name)
    assert made.locales == ("en", "zh")
    data = made.sample(locale)
    made.check(data)
    rendered = made.render(locale, data)
    assert rendered == Template(SHIPPED.load(name)).render(locale, data)
    named = data["customer"]["name"] if "customer" in data else data[NAMED[name]]
    assert named in rendered.text
    assert rendered.html is not None
    assert named in rendered.html
    assert "{{" not in rendered.html + rendered.text + rendered.subject


@pytest.mark.parametrize(("name", "locale"), CASES)
def test_a_shipped_template_is_inlined_ahead_and_says_what_it_says_plain(
    name: str, locale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inlined = shipped_template(name)
    html = inlined._contents[locale].html
    assert html is not None
    assert not html.late, "the CSS of a shipped template does not wait for the data"
    monkeypatch.setattr(part, "inlined", lambda pieces: None)
    monkeypatch.setattr(part, "inline", lambda html: html)
    plain = Template(SHIPPED.load(name))
    data = inlined.sample(locale)
    made, unmade = inlined.render(locale, data).html, plain.render(locale, data).html
    assert made is not None
    assert unmade is not None
    assert made != unmade
    assert Markup(made).found == Markup(unmade).found


@cache
def shipped_template(name: str) -> Template:
    return Template(SHIPPED.load(name))


MINIMAL: dict[str, dict[str, Any]] = {
    "order_confirmation": {
        "order": {
            "id": 7, "placed_at": "2026-11-20", "currency": "EUR", "total": 9.5,
            "items": [{"sku": 1, "name": "<i>", "quantity": "2.5", "unit_price": 3.8}],
        }
    },
    "shipment_notice": {"order": {"id": "7"}, "shipment": {"carrier": "UPS", "tracking_number": "1Z"}},
    "password_reset": {"reset_url": "https://e.example/r?t=s3cr3t", "expires_minutes": 15},
    "welcome": {}, "birthday": {}, "report_ready": {"report": {"title": "T", "period": "P"}},
    "newsletter": {"title": "<i>", "intro": "I"},
    "welcome_first_steps": {}, "welcome_invitation": {}, "review_request": {"order": {"id": "<i>"}},
    "campaign_report": {
        "campaign": "<i>", "outcome": "cancelled", "audience": "people", "rows": 0, "filtered": 0, "mails": 0,
        "states": [], "finished_at": "2026-11-20T09:00:00Z",
    },
    "report_sent": {
        "report": "<i>", "mails": 0, "left_out": 0, "states": [], "attached": False,
        "started_at": "2026-11-20T09:00:00Z", "finished_at": "2026-11-20T09:00:00Z",
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "locale"), CASES)
def test_a_shipped_template_asks_for_no_more_than_its_contract(name: str, locale: str) -> None:
    made = shipped_template(name)
    data = {"customer": {"name": "Ann", "vip": True}, **MINIMAL[name]}
    made.check(data)
    rendered = made.render(locale, data)
    assert rendered.html is not None
    assert "<i>" not in rendered.html
    assert "\n\n\n" not in rendered.text


def test_an_order_shows_its_total_and_its_lines() -> None:
    made = shipped_template("order_confirmation")
    data = {"customer": {"name": "Ann"}, **MINIMAL["order_confirmation"]}
    rendered = made.render("en", data)
    assert rendered.html is not None
    for body in (rendered.text, rendered.html):
        assert "€9.50" in body  # 2.5 x 3.8, as the line and as the total
        assert "2.5 \u00d7 €3.80" in body
    sample = made.samples["order"]
    paid = float(sample["subtotal"]) - float(sample["discount"]) + float(sample["shipping"]) + float(sample["tax"])
    assert paid == pytest.approx(float(sample["total"])), "the sample is an order that adds up"


def test_a_reset_link_is_kept_apart() -> None:
    made = shipped_template("password_reset")
    public, secrets = made.split(made.samples)
    assert secrets == {"reset_url": made.samples["reset_url"]}
    assert made.samples["reset_url"] not in str(public)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://e.example", "data:text/html,x"])
def test_a_link_is_a_web_address(url: str) -> None:
    made = shipped_template("welcome")
    with pytest.raises(MissingData, match=r"^data\.login_url: must match pattern"):
        made.check({"customer": {"name": "Ann"}, "login_url": url})
