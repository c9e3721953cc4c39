"""Jinja2 for mail: a sandbox in which data is data, and the Python that it makes of a template.

What stands in a template most often, ``{{ order.id }}``, is made for speed: a field of an object is taken in place,
and a text without markup is written as it is. Everything else is Jinja's own code.
"""

import re
from collections.abc import Iterable, MutableMapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, optimizeconst
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer
from markupsafe import escape

from dispatcher.filters import FILTERS
from dispatcher.transfer import Fixed

# What is made into code that knows no context, or only the variables in it.
_OF_NAMES = (
    *(nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.With, nodes.Scope),
    *(nodes.Name, nodes.Getattr, nodes.Literal, nodes.CondExpr, nodes.Compare, nodes.Operand),
    *(nodes.BinExpr, nodes.UnaryExpr),
)
_MARKUP = re.compile("[&<>\"']")


class _Generator(CodeGenerator):
    """Jinja's, but for fields and what is written."""

    environment: "Environment"

    @optimizeconst
    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        """``environment.getattr(of, 'name')``, called only where it is no plain object with that field."""
        self.write(f"(of[{node.attr!r}] if (of := ")
        self.visit(node.node, frame)
        self.write(f").__class__ is dict and {node.attr!r} in of else environment.getattr(of, {node.attr!r}))")

    @optimizeconst
    def visit_Test(self, node: nodes.Test, frame: Frame) -> None:  # noqa: N802 - as above
        """``order.discount is defined`` looks whether it is there."""
        if node.name != "defined" or not isinstance(node.node, nodes.Getattr):
            super().visit_Test(node, frame)
            return
        name = repr(node.node.attr)
        self.write(f"({name} in of if (of := ")
        self.visit(node.node.node, frame)
        self.write(f").__class__ is dict else environment.has(of, {name}))")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        """A text of the template's own is always the same object, which keeps how it is encoded."""
        self.environment.texts.append(Fixed("".join(group)))
        return f"environment.texts[{len(self.environment.texts) - 1}]"

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if frame.eval_ctx.volatile:
            super()._output_child_pre(node, frame, finalize)
        else:
            self.write("environment.as_html(" if frame.eval_ctx.autoescape else "environment.as_text(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if frame.eval_ctx.volatile:
            super()._output_child_post(node, frame, finalize)
        else:
            self.write(")")


class _Names(dict[str, Any]):
    """The variables of one rendering, in place of a context, which takes as long to make as to look them all up."""

    __slots__ = ()
    resolve_or_missing = dict.__getitem__  # Jinja's name
    get_all = dict.copy  # as above: it is asked for where an error is looked into

    def __missing__(self, name: str) -> Any:
        return missing


class _OfNames(jinja2.Template):
    """One whose code asks its context for variables, and for nothing else."""

    def new_context(self, vars: dict[str, Any] | None = None, *_: Any) -> Any:  # noqa: A002 - Jinja's name
        names = _Names(self.globals)
        names.update(vars or {})
        return names


class _Unblocked(NodeTransformer):
    """Blocks as what they are in a template that nothing extends: scopes in the place where they stand."""

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802 - as above
        return nodes.Scope(list(map(self.visit, node.body)), lineno=node.lineno)


def printable(value: Any) -> Any:
    """The value, unless it is null. Raises ValueError."""
    if value is None:
        raise ValueError("a null cannot be written into a mail; test for it, or give it a default")
    return value


class Environment(ImmutableSandboxedEnvironment):
    """``order.items`` is the data of that name or undefined, never a method of dict. ``texts``: what its templates
    write whatever the data."""

    code_generator_class = _Generator

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.texts: list[Fixed] = []

    def compile_whole(self, source: str, name: str, file: str) -> jinja2.Template:
        """A source that is complete in itself: its blocks are written in place, where no other part of it asks for one
        and none is in a loop, whose variables it may not see. Raises TemplateSyntaxError."""
        tree = self.parse(source, name, file)
        asked = any(each.name == "self" for each in tree.find_all(nodes.Name))
        looped = any(loop.find(nodes.Block) for loop in tree.find_all(nodes.For))
        if not asked and not looped:
            tree = _Unblocked().visit(tree)
        kind = _OfNames if all(map(self._asks_for_names, tree.find_all(nodes.Node))) else jinja2.Template
        code = self.compile(tree, name, file)
        return kind.from_code(self, code, self.make_globals(None))

    def _asks_for_names(self, node: nodes.Node) -> bool:
        """Whether its code asks the context for variables and nothing else."""
        if isinstance(node, nodes.Filter | nodes.Test):
            known: Any = self.filters if isinstance(node, nodes.Filter) else self.tests
            return node.name in known and not hasattr(known[node.name], "jinja_pass_arg")
        return isinstance(node, _OF_NAMES)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if not isinstance(obj, dict):
            return super().getattr(obj, attribute)
        try:
            return obj[attribute]
        except KeyError:
            return self.undefined(obj=obj, name=attribute)

    def has(self, obj: Any, attribute: str) -> bool:
        """Whether the object, which is no plain one, has this field."""
        return not isinstance(self.getattr(obj, attribute), jinja2.Undefined)

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """One mapping in place of Jinja's chain of them, which every rendering would walk through."""
        return {**self.globals, **(d or {})}

    @staticmethod
    def as_html(value: Any) -> str:
        """What is written for a value where markup has a meaning."""
        if type(value) is str and _MARKUP.search(value) is None:
            return value
        return escape(printable(value))

    @staticmethod
    def as_text(value: Any) -> str:
        """What is written for a value where it has none."""
        return value if type(value) is str else str(printable(value))


def environment(loader: jinja2.BaseLoader) -> Environment:
    """For the files of one template: those that end in ``.html`` escape what they write."""
    made = Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        autoescape=lambda file: file is not None and file.endswith(".html"),
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    del made.filters["random"], made.globals["lipsum"]  # the same data makes the same bytes
    return made
