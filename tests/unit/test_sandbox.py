"""The Python that is made of a template writes what Jinja's own would: the same texts, and the same errors."""

from typing import Any

import jinja2
import pytest
from jinja2.compiler import CodeGenerator
from markupsafe import Markup

from dispatcher.sandbox import Environment, environment

DATA: dict[str, Any] = {
    "order": {"id": "A&B", "items": [{"sku": "x", "n": 1}, {"sku": "<y>", "n": 2.5}], "note": None, "empty": ""},
    "name": "Ada 'Q' <q@example.com>",
    "number": 7,
    "deep": {"a": {"b": {"c": "d"}}},
    "loud": True,
}
SOURCES = [
    "{{ order.id }} {{ name }} {{ number }} {{ loud }}",
    "{{ deep.a.b.c }}{{ deep['a'].b['c'] }}{{ (deep.a).b.c | upper }}",
    "{% for item in order.items %}{{ item.sku }}:{{ item.n }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for item in order.items if item.n > 1 %}{{ item.sku }}{% else %}none{% endfor %}",
    "{{ order.items | map(attribute='sku') | join(', ') }}",
    "{% if order.url is defined %}1{% endif %}{% if order.id is defined %}2{% endif %}{{ x is defined }}",
    "{% if order.url is not defined and order.url is undefined %}1{% endif %}{{ order.empty is defined }}",
    "{{ order.url | default('none') }}{{ order.empty or 'nothing' }}",
    "{% set total = order.items[0].n + order.items[1].n %}{{ total }}{% set of = 3 %}{{ of }}{{ order.id }}",
    "{% macro cell(x) %}<td>{{ x.sku }}</td>{% endmacro %}{{ cell(order.items[1]) }}",
    "{% set block %}{{ name }}{% endset %}{{ block }}",
    "{% filter upper %}{{ order.id }}{% endfilter %}",
    "{{ name | safe }}{{ name | e }}{{ ('<b>' ~ name) }}",
    "{% autoescape false %}{{ name }}{% endautoescape %}{% autoescape loud %}{{ name }}{% endautoescape %}",
    "{% block a %}{% set inner = 1 %}{{ order.id }}{% block b %}{{ name }}{% endblock %}{% endblock %}",
    "{% set outer = 1 %}{% block a %}{{ outer is defined }}{% endblock %}",
    "{% block a %}{{ name }}{% endblock %}{{ self.a() }}",
    "{% for name in ['x', 'y'] %}{% block a %}{{ name }}{% endblock %}{% endfor %}",
    "{% for item in order.items %}{% block a scoped %}{{ item.sku }}{% endblock %}{% endfor %}",
    "{% with url = order.id %}{{ url }}{% endwith %}",
    "{{ {'a': order.id}.a }}{{ [order.id, deep.a.b][0] }}{{ deep.a.b.c if order.id else 0 }}",
    "{{ order.nosuch }}",
    "{{ nosuch.at.all }}",
    "{% if nosuch.field is defined %}{% endif %}",
    "{{ order.note }}",
    "{{ name.__class__ }}",
    "{{ order.items.append }}",
]


class Plain(Environment):
    """The same but for the code that is generated."""

    code_generator_class = CodeGenerator


def outcome(made: Environment, name: str, source: str, *, whole: bool) -> str:
    """What is written, or what is wrong."""
    try:
        if whole:
            return made.compile_whole(source, name, name).render(DATA)
        return made.from_string(source).render(DATA) if name.endswith("txt") else _named(made, name, source)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return f"{type(error).__name__}: {error}"


def _named(made: Environment, name: str, source: str) -> str:
    made.loader = jinja2.DictLoader({name: source})
    return made.get_template(name).render(DATA)


@pytest.mark.parametrize("name", ["body.txt", "body.html"])
@pytest.mark.parametrize("source", SOURCES)
def test_it_writes_what_jinja_writes(name: str, source: str) -> None:
    ours = environment(jinja2.DictLoader({}))
    plain = ours.overlay()
    plain.__class__ = Plain
    expected = outcome(plain, name, source, whole=False)
    assert outcome(ours, name, source, whole=False) == expected
    assert outcome(ours.overlay(), name, source, whole=True) == expected


def test_what_is_markup_already_is_not_escaped_again() -> None:
    assert Environment.as_html(Markup("<b>")) == "<b>"
    assert Environment.as_html("<b> & 'c'") == "&lt;b&gt; &amp; &#39;c&#39;"
    assert Environment.as_text(Markup("<b>")) == "<b>"
