"""CSS goes into style attributes and leaves everything else, Jinja above all, as it was."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Template

from dispatcher.inheritance import flatten, pieces
from dispatcher.inline import inline, inlined
from dispatcher.part import Source
from dispatcher.sandbox import Environment
from tests.markup import Markup

CSS = (
    "<style>.a { color: red; } .b { color: blue; } td { padding: 4px; } .card p { margin: 0; }"
    " a:hover { color: green; } @media (max-width: 500px) { .a { color: black !important; } }</style>"
)

# Each is one nasty thing that must be inlined ahead of the data, and render as if it had not been.
STEADY = {
    "rows in a loop": "<table>{% for i in items %}<tr><td class='a'>{{ i }}</td></tr>{% endfor %}</table>",
    "a loop with an else": "<table>{% for i in none_ %}<tr><td>{{ i }}</td></tr>{% else %}<tr><td class='b'>-</td></tr>"
    "{% endfor %}</table>",
    "a comparison": "{% if 3 > 2 and n<4 %}<p class=\"a\">{{ '>' if n > 2 else '<' }}</p>{% endif %}",
    "markup within an expression": '<p class="a">{{ "<td class=\'b\'>" }} {{ "-->" }}</p>',
    "an attribute under a condition": '<table><tr><td {% if n > 2 %}align="right"{% endif %}>x</td></tr></table>',
    "a variable in href": '<a class="a" href="{{ url }}?x={{ n }}&amp;y=1">go</a>',
    "quotes within quotes": """<a class="a" href="{{ {"k": "v\\"w"}["k"] }}" title='{{ "it\\'s" }}'>go</a>""",
    "raw text": '<p class="a">{% raw %}{{ not a variable }} <b class="b">{% if %}</b>{% endraw %}</p>',
    "comments": '<!-- {{ n }} <p class="a"> --><p class="b">x{# <p class="a"> #}</p><!--[if mso]><table><![endif]-->',
    "a style that is there": '<p class="a" style="margin: 1px">x</p>',
    "a style from the data": '<p class="a" style="width: {{ n }}px">x</p>',
    "a style in single quotes": "<p class='a' style='font-family: \"A B\"; width: {{ n }}px'>x</p>",
    "branches": '{% if n > 9 %}<p class="a">a</p>{% elif n %}<div class="b">b</div>{% else %}<hr class="a">{% endif %}',
    "void elements": '<img class="a" src="x" alt=""><br/><hr class="b" />',
    "whitespace control": '<p class="a">\n  {%- if n -%}  x  {%- endif -%}\n  </p>  {{- n -}}  <b>y</b>',
    "a title": '<title>{% if n %}{{ n }} < 4 </b>{% endif %}</title><p class="a">x</p>',
    "scripts of no matter": '<script>if (1 < 2) { document.write("<p class=a>") }</script><p class="a">x</p>',
    "capitals": '<TABLE><TR><TD CLASS="a">x</TD></TR></TABLE>',
    "descendants": '<div class="card">{% for i in items %}<p>{{ i }}</p>{% endfor %}</div><p>out</p>',
    "an entity that is none": '<p class="a">a & b &nbsp; &copy &#8212; 1 < 2 李</p>',
    "set and with": '{% set k = n > 2 %}{% with m = k %}<p class="a">{{ m }}</p>{% endwith %}',
}

# Here the styles depend on the data: nothing may be inlined ahead of it.
FLUID = {
    "a class from the data": '<p class="a {{ kind }}">x</p>',
    "a class under a condition": '<p {% if n %}class="b"{% endif %}>x</p>',
    "attributes from the data": "<p {{ attributes }}>x</p>",
    "an element's name": "<{{ tag }} class='a'>x</{{ tag }}>",
    "markup that is safe": '<div class="card">{{ body | safe }}</div>',
    "an end in one branch": '<div class="card">{% if n %}</div><div>{% endif %}<p>x</p></div>',
    "a start in one branch": '{% if n %}<div class="card">{% endif %}<p>x</p>{% if n %}</div>{% endif %}',
    "a macro": '{% macro m(x) %}<p class="a">{{ x }}</p>{% endmacro %}<div class="card">{{ m(1) }}</div>',
    "a loop within itself": "{% for i in items recursive %}<div class='card'>{{ loop(()) }}<p>x</p></div>{% endfor %}",
    "a block of its own": '{% set x %}<p class="a">x</p>{% endset %}{{ x }}',
    "rules from the data": "<style>.a { color: {{ color }}; }</style><p class='a'>x</p>",
    "rules under a condition": "{% if n %}<style>.a { color: red; }</style>{% endif %}<p class='a'>x</p>",
    "rows by number": "<style>tr:nth-child(even) { color: red; }</style><table>{% for i in items %}<tr><td>{{ i }}</td>"
    "</tr>{% endfor %}</table>",
    "neighbours": "<style>p + p { color: red; }</style>{% if n %}<p>x</p>{% endif %}<p>y</p>",
    "attributes in a selector": '<style>a[href] { color: red; }</style><a href="x">x</a>',
    "a sheet for print": '<style media="print">.a { color: red; }</style><p class="a">x</p>',
    "braces that do not pair": "<style>.a { color: red; }}</style><p class='a'>x</p>",
}

DATA: dict[str, Any] = {"items": ["x", "<y>"], "none_": [], "n": 3, "url": "https://e.example/a?b=c&d", "kind": "b"}


def environment() -> Environment:
    return Source("t", {})._environment


def document(body: str) -> str:
    return f"<!DOCTYPE html><html><head>{CSS}</head><body>{body}</body></html>"


def ahead(source: str) -> str | None:
    return inlined(pieces(environment().lex, source))


def rendered(source: str, *, flat: bool = False) -> str:
    made = Source("t", {})
    chosen = made._flat if flat else made._environment
    return Template.from_code(chosen, chosen.compile(source, "body.html"), chosen.globals).render(DATA)


@pytest.mark.parametrize("case", STEADY)
def test_inlined_and_plain_render_alike(case: str) -> None:
    source = document(STEADY[case])
    made = ahead(source)
    assert made is not None, "this can be inlined ahead of the data"
    assert "style=" in made
    assert Markup(rendered(made, flat=True)).found == Markup(rendered(source)).found


@pytest.mark.parametrize("case", STEADY)
def test_inlining_ahead_gives_each_element_what_inlining_afterwards_does(case: str) -> None:
    source = document(STEADY[case])
    made = ahead(source)
    assert made is not None
    assert Markup(rendered(made, flat=True)).styles == Markup(inline(rendered(source))).styles


def _within(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    children = st.lists(inner, max_size=3).map("".join)
    return st.one_of(
        st.builds("<div class='{1}'>{0}</div>".format, children, st.sampled_from(["a", "b", "card", "a b", "c"])),
        st.builds(
            '<div style="margin: 1px{1}">{0}</div>'.format, children, st.sampled_from(["", "; width: {{ n }}px"])
        ),
        st.builds("{{% if n > {2} %}}{0}{{% else %}}{1}{{% endif %}}".format, children, children, st.integers(2, 4)),
        st.builds("{{% for i in items %}}{0}{{% else %}}{1}{{% endfor %}}".format, children, children),
        st.builds(
            "<table>{{% for i in items %}}<tr><td class='b'>{0}</td></tr>{{% endfor %}}</table>".format, children
        ),
        st.builds("{{% raw %}}{0}{{% endraw %}}".format, st.sampled_from(["<b class='a'>{{ x }}</b>", "{% if %}"])),
        st.builds("{{%- if n -%}} {0} {{%- endif %}}\n".format, children),
    )


LEAVES = st.sampled_from(
    [
        *("x", " \n ", "{{ n }}", "{{ items[1] }}", "<p class='a'>李</p>", "<br>", "{# <p> #}", "<hr class='b'/>"),
        *('<a href="{{ url }}">go</a>', "<!-- {{ n }} <p> -->", "1 < 2 & 3 > 2", "<img alt='>' src='{{ url }}'>"),
        "{{ '</div>' }}",
    ]
)


@given(st.recursive(LEAVES, _within, max_leaves=12))
@settings(max_examples=120, deadline=None)
def test_whatever_is_put_together_stays_what_it_was(body: str) -> None:
    made = ahead(document(body))
    assert made is not None
    after = rendered(made, flat=True)
    assert Markup(after).found == Markup(rendered(document(body))).found
    assert Markup(after).styles == Markup(inline(rendered(document(body)))).styles


@pytest.mark.parametrize("case", FLUID)
def test_what_depends_on_the_data_waits_for_it(case: str) -> None:
    assert ahead(document(FLUID[case])) is None


def test_each_element_gets_its_own_rules_and_keeps_what_it_had() -> None:
    made = ahead(document('<table><tr><td class="a" style="margin: 1px">x</td></tr></table><b class="b">y</b>'))
    assert made is not None
    assert '<td class="a" style="padding: 4px;color: red;margin: 1px">' in made
    assert '<b class="b" style="color: blue">' in made


def test_a_style_from_the_data_still_wins() -> None:
    made = ahead(document('<p class="a" style="color: {{ kind }}">x</p>'))
    assert made is not None
    assert '<p class="a" style="color: red;color: {{ kind }}">' in made


def test_media_queries_and_hover_stay_in_the_sheet_and_inlined_rules_leave_it() -> None:
    made = ahead(document('<p class="a">x</p><a class="b">y</a>'))
    assert made is not None
    sheet = made[made.index("<style>") : made.index("</style>")]
    assert "@media (max-width: 500px)" in sheet
    assert "a:hover" in sheet
    assert ".b { color: blue" not in sheet


def test_several_sheets_become_one() -> None:
    made = ahead(
        document("<p class='a'>x</p>").replace("</head>", "<style>.a { top: 1px; } i:hover {top: 2px}</style></head>")
    )
    assert made is not None
    assert made.count("<style>") == 1
    assert "i:hover" in made
    assert "top: 1px" in made.split("<body>")[1]


def test_a_style_sheet_elsewhere_is_never_read(tmp_path: Any) -> None:
    sheet = tmp_path / "x.css"
    sheet.write_text("p { color: red }")
    for href in (sheet, sheet.as_uri(), "http://127.0.0.1:9/x.css"):
        assert "color" not in inline(f'<link rel="stylesheet" href="{href}"><p>x</p>')


LAYOUT = (
    "<html><head><style>.a { color: red; }</style></head><body>{% block top %}<p>top</p>{% endblock %}"
    "<div>{% block main %}<i>base</i>{% endblock %}</div></body></html>"
)


@pytest.mark.parametrize(
    "child",
    [
        '{% extends "_l/base.html" %}{% block main %}<p class="a">{{ n }}</p>{% endblock %}',
        '{% extends "_l/base.html" %}{% block main %}<b>{{ super() }}</b>{{ n }}{% endblock %} ignored text',
        '{% extends "_l/base.html" %}{% set word = "李" %}{% block main %}{{ word }}{% endblock %}',
        '{% extends "_l/mid.html" %}{% block inner %}<p class="a">in</p>{% endblock %}',
        '{% extends "_l/mid.html" %}{% block top %}{{ super() }}!{% endblock %}',
        '{% for i in items %}\n  {% include "_l/row.html" %}\n{% endfor %}<p class="a">x</p>',
        '{% with i = 4 %}{% include "_l/row.html" %}{% endwith %}',
    ],
)
def test_a_flattened_template_means_the_same(child: str) -> None:
    files = {
        "body.html": child,
        "_l/base.html": LAYOUT,
        "_l/mid.html": '{% extends "_l/base.html" %}{% block main %}<u>{% block inner %}mid{% endblock %}</u>'
        "{% endblock %}{% block top %}<h1>{{ super() }}</h1>{% endblock %}",
        "_l/row.html": '{# a comment #}\n<p class="a">\n  {%- if i %} {{ i }}{% endif %}\n</p>\n',
    }
    source = Source("t", files)
    flat = "".join(piece.source for piece in flatten("body.html", files, source._environment.lex))
    assert "extends" not in flat
    assert "include" not in flat
    assert rendered(flat, flat=True) == source.template("body.html").render(DATA)
    part = source.part("body.html")
    assert not part.late
    assert Markup(part.render(DATA)).found == Markup(source.template("body.html").render(DATA)).found


@pytest.mark.parametrize(
    "child",
    [
        '{% if n %}{% extends "_l/base.html" %}{% endif %}{% block main %}<p class="a">x</p>{% endblock %}',
        '{% extends which %}{% block main %}<p class="a">x</p>{% endblock %}',
        '{% extends "_l/base.html" %}{% block main %}{% include "_l/set.html" %}<p class="a">{{ n }}</p>{% endblock %}',
        '{% from "_l/set.html" import m %}<p class="a">{{ m() }}</p>' + CSS,
        '{% extends "_l/base.html" %}{% block main scoped %}<p class="a">x</p>{% endblock %}',
        '{% include ["_l/none.html", "_l/base.html"] %}<p class="a">x</p>',
    ],
)
def test_what_cannot_be_flattened_is_inlined_after_rendering(child: str) -> None:
    files = {
        "body.html": child,
        "_l/base.html": LAYOUT.replace("</body>", '<p class="a">last</p></body>'),
        "_l/set.html": "{% set n = 99 %}{% macro m() %}m{% endmacro %}",
    }
    part = Source("t", files).part("body.html")
    assert part.late
    assert '<p class="a" style="color: red;">' in part.render({**DATA, "which": "_l/base.html"})
