"""One file of a template under Jinja2: compiled in a sandbox, rendered, and its faults named by file and line.

Source(name, files)   the environment of one template version: it reads these files and nothing else
  .part("body.html")  -> Part     TemplateError
Part.render(data)     -> str      RenderError
  .pieces(data)       -> its pieces, most of which the next rendering has, too
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from traceback import walk_tb
from typing import Any

import jinja2
from jinja2 import nodes

from dispatcher.errors import RenderError, TemplateError
from dispatcher.inheritance import NotFlat, flatten
from dispatcher.inline import inline, inlined
from dispatcher.sandbox import environment

_REFERENCES = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
_PLAIN_REASONS = (ValueError, jinja2.UndefinedError, jinja2.TemplateRuntimeError)


class Part:
    """One compiled file. ``late``: its CSS depends on the data, so that every mail is inlined after rendering."""

    def __init__(self, source: "Source", file: str) -> None:
        self.file = file
        self.where = source.where(file)
        self._source = source
        self._plain = source.template(file)
        flat = source.flat(file)
        self.late = flat is None and file.endswith(".html")
        self._compiled = flat or self._plain

    def render(self, variables: dict[str, Any]) -> str:
        """Raises RenderError naming ``template/file:line`` and the reason."""
        return "".join(self.pieces(variables))

    def pieces(self, variables: dict[str, Any]) -> Sequence[str]:
        """As ``render``, in the pieces that the template writes: its own texts, the same ones each time, and what it
        makes of the data."""
        try:
            context = self._compiled.new_context(variables)
            written = list(self._compiled.root_render_func(context))
            return [inline("".join(written))] if self.late else written
        except Exception as error:  # noqa: BLE001 - whatever a template and its data make of Jinja
            # Jinja itself, asked for a whole, finds the line; the same fault, in the file that has it.
            raise self._source.fault(self.where, self._again(variables) or error) from None

    def _again(self, variables: dict[str, Any]) -> Exception | None:
        try:
            self._plain.render(variables)
        except Exception as error:  # noqa: BLE001 - the one that is looked for
            return error
        return None


class Source:
    """A template's own files, by relative path, in an environment of their own."""

    def __init__(self, name: str, files: Mapping[str, str]) -> None:
        self.name = name
        self._files = files
        self._environment = environment(jinja2.FunctionLoader(self._load))
        # Whitespace control is carried out before a source is flattened: nothing must trim it again.
        self._flat = self._environment.overlay(trim_blocks=False, lstrip_blocks=False, keep_trailing_newline=True)
        self._sound: set[str] = set()

    def where(self, file: str) -> str:
        """The path of a file from the folder of all templates; a shared layout stands beside the templates."""
        return file if file.startswith("_") else f"{self.name}/{file}"

    def part(self, file: str) -> Part:
        """Compile a file. Raises TemplateError for it, or for what it extends, includes and imports."""
        self._check(file)
        return Part(self, file)

    def template(self, file: str) -> jinja2.Template:
        return self._environment.get_template(file)

    def flat(self, file: str) -> jinja2.Template | None:
        """The file with its layout, its includes and the CSS of HTML in place; None where that cannot be done without
        the data."""
        try:
            pieces = flatten(file, self._files, self._environment.lex)
            source = inlined(pieces) if file.endswith(".html") else "".join(piece.source for piece in pieces)
            if source is None:
                return None
            return self._flat.compile_whole(source, file, self.where(file))
        except (NotFlat, jinja2.TemplateSyntaxError):
            return None

    def fault(self, where: str, error: Exception) -> RenderError:
        """The error as one line: the innermost place in a template that it came by, and the reason."""
        known = {self.where(file) for file in self._files}
        for frame, line in walk_tb(error.__traceback__):
            if (file := frame.f_code.co_filename) in known:
                where = f"{file}:{line}"
        reason = str(error) if isinstance(error, _PLAIN_REASONS) else f"{type(error).__name__}: {error}"
        return RenderError(where, " ".join(reason.split()) or type(error).__name__)

    def _load(self, file: str) -> tuple[str, str, Callable[[], bool]] | None:
        return (self._files[file], self.where(file), lambda: True) if file in self._files else None

    def _check(self, file: str) -> None:
        if file in self._sound:
            return
        self._sound.add(file)
        try:
            self._environment.get_template(file)
            tree = self._environment.parse(self._files[file], file, self.where(file))
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"{self.where(file)}:{error.lineno}", error.message or "bad syntax") from None
        for line, wanted in _references(tree):
            if wanted not in self._files:
                raise TemplateError(f"{self.where(file)}:{line}", f"{wanted!r} is no file of this template")
            self._check(wanted)


def _references(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """The files that a template names outright, with the line; what it computes is found at rendering."""
    for node in tree.find_all(_REFERENCES):
        wanted = node.template  # type: ignore[attr-defined]  # all four have it
        if isinstance(wanted, nodes.Const) and not getattr(node, "ignore_missing", False):
            yield node.lineno, str(wanted.value)
