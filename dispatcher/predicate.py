"""A JSON Schema as a predicate that is sure when it says yes: nearly all data is right, and is seen to be at once.

It knows the keywords that schemas of mails are made of. Where it meets another one, or anything that is not plainly
right, it answers no, and the library has the word: what is wrong, and whether it is.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Any], object]  # by its truth; or it raises ValueError
Rules = Mapping[type, Test | None]  # what is asked of a value by its type, None: nothing more; any other type is wrong

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_SAYS_NOTHING = frozenset(("title", "description", "default", "examples", "$comment", "x-sensitive"))
_OBJECT = frozenset(("type", "required", "properties"))
_ARRAY = frozenset(("type", "minItems", "items"))
_SCALAR = frozenset(("type", "minLength", "pattern", "format"))


def rules(schema: Any, formats: Mapping[str, Test]) -> Rules:
    """Of a schema that the library has compiled, so that it is one; ``formats``: tests that are as sure as these."""
    if not isinstance(schema, Mapping) or "type" not in schema:
        return {}
    words = schema.keys() - _SAYS_NOTHING
    if schema.get("additionalProperties") is True:
        words -= {"additionalProperties"}
    if schema["type"] == "object" and words <= _OBJECT:
        return {dict: _object(schema, formats)}
    if schema["type"] == "array" and words <= _ARRAY:
        return {list: _array(schema, formats)}
    if words <= _SCALAR and schema.get("format", "") in {"", *formats} and "$" not in schema.get("pattern", ""):
        return _scalar(schema, formats)
    return {}


def _unsure(_: Any) -> bool:
    return False


def _object(schema: Mapping[str, Any], formats: Mapping[str, Test]) -> Test:
    required = frozenset(schema.get("required", ()))
    known = {name: rules(each, formats) for name, each in schema.get("properties", {}).items()}

    def holds(value: dict[str, Any]) -> bool:
        if not value.keys() >= required:
            return False
        for name, each in value.items():  # what is there, not all that might be
            if (asked := known.get(name)) is not None:
                test = asked.get(type(each), _unsure)
                if test is not None and not test(each):
                    return False
        return True

    return holds


def _array(schema: Mapping[str, Any], formats: Mapping[str, Test]) -> Test:
    least = schema.get("minItems", 0)
    if "items" not in schema:
        return lambda value: len(value) >= least
    asked = rules(schema["items"], formats)

    def holds(value: list[Any]) -> bool:
        if len(value) < least:
            return False
        for each in value:
            test = asked.get(type(each), _unsure)
            if test is not None and not test(each):
                return False
        return True

    return holds


def _scalar(schema: Mapping[str, Any], formats: Mapping[str, Test]) -> Rules:
    named = schema["type"]
    found: dict[type, Test | None] = {
        kind: None for name in ([named] if isinstance(named, str) else named) for kind in _KINDS[name]
    }
    if str in found:
        found[str] = _text(schema, formats)
    return found


def _text(schema: Mapping[str, Any], formats: Mapping[str, Test]) -> Test | None:
    """What is asked of a value that is text. Where one function of C answers it, that one is called."""
    asked: list[Test] = []
    if least := schema.get("minLength", 0):
        asked.append(bool if least == 1 else lambda value: len(value) >= least)
    if "pattern" in schema:
        asked.append(re.compile(schema["pattern"]).search)
    if "format" in schema:
        asked.append(formats[schema["format"]])
    if len(asked) > 1:
        return lambda value: all(test(value) for test in asked)
    return asked[0] if asked else None
