"""The part of Jinja2 that a text may use: its variables, `if`, and four filters.

Whoever writes texts is no programmer of this service: loops, macros, attributes, items, calls and everything
else are refused when a text is put, and the sandbox stands behind that. What is checked is also bounded, so
that no text makes the parser recurse deeply or the compiler write much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from jinja2 import Environment, StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import SandboxedEnvironment

from services.notifications.core.templates.markup import markup_fault

MAX_TAGS: Final = 100
MAX_TOKENS: Final = 24
"""Words and signs within one tag."""
MAX_DEPTH: Final = 3
"""Conditions within conditions."""
FILTERS: Final = ("capitalize", "lower", "trim", "upper")


class UnrenderableError(Exception):
    """The text cannot be rendered. The error does not quote the values, which are personal."""


class Place:
    """The place of a value in a text."""

    def __repr__(self) -> str:
        return "PLACE"


PLACE: Final = Place()


def _environment(*, html: bool) -> Environment:
    # Autoescape is for HTML; the others are plain text, and other services have cleaned the values.
    made = SandboxedEnvironment(undefined=StrictUndefined, autoescape=html)
    made.globals.clear()
    return made


_PLAIN: Final = _environment(html=False)
_HTML: Final = _environment(html=True)


@dataclass(frozen=True)
class Source:
    """A text that has been checked, compiled when it is first needed."""

    text: str
    html: bool = False

    @cached_property
    def _template(self) -> Template:
        return (_HTML if self.html else _PLAIN).from_string(self.text)

    def render(self, values: Mapping[str, str]) -> str:
        """Raises: `UnrenderableError`."""
        try:
            return self._template.render(values).strip()
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise UnrenderableError(type(error).__name__) from None


def faults(text: str, variables: Collection[str], *, html: bool = False) -> list[str]:
    """All that is wrong with a text; nothing if it may be used. It quotes no more of it than names."""
    if html and (fault := markup_fault(text)):
        return [fault]
    try:
        if fault := _size_fault(text):
            return [fault]
        found = dict.fromkeys(_node_faults(_PLAIN.parse(text), variables))
        if not found:
            Source(text, html)._template  # noqa: B018 (compiles it)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        return ["is not a valid template" + (f" (line {line})" if line else "")]
    except (RecursionError, SyntaxError, ValueError, MemoryError, OverflowError):
        return ["is not a valid template"]
    return list(found)[:10]


def segments(text: str) -> list[str | Place] | None:
    """A checked text as what stands there and the places of values; None if it has conditions: then it is not
    one text, but several."""
    found: list[str | Place] = []
    for node in _PLAIN.parse(text).body:
        if not isinstance(node, nodes.Output):
            return None
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                found.append(part.data)
            elif isinstance(part, nodes.Name | nodes.Filter):
                found.append(PLACE)
            else:
                return None
    return _stripped(found)


def _stripped(parts: Sequence[str | Place]) -> list[str | Place]:
    """As `render` strips; texts that follow each other are joined."""
    joined: list[str | Place] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    if joined and isinstance(joined[0], str):
        joined[0] = joined[0].lstrip()
    if joined and isinstance(joined[-1], str):
        joined[-1] = joined[-1].rstrip()
    return [part for part in joined if part != ""]


def _size_fault(text: str) -> str | None:
    """Look at the tags one by one, before anything parses them as a whole."""
    tags = depth = tokens = 0
    for _, kind, value in _PLAIN.lex(text):
        if kind in ("variable_begin", "block_begin"):
            tags, tokens = tags + 1, 0
        elif kind in ("variable_end", "block_end", "data", "whitespace"):
            continue
        elif kind in ("raw_begin", "comment_begin"):
            return "must have no comments and no raw parts"
        else:
            tokens += 1
            if tokens == 1 and value in ("if", "endif"):
                depth += 1 if value == "if" else -1
            if kind == "string" and "\\" in value:
                return "must have no backslashes in its tags"
            if kind == "operator" and value in ("(", "[", "{"):
                return "must have no brackets in its tags: no calls, lists or items"
        if tags > MAX_TAGS or tokens > MAX_TOKENS or depth > MAX_DEPTH:
            return (
                f"must have at most {MAX_TAGS} tags, {MAX_TOKENS} words in each,"
                f" and {MAX_DEPTH} conditions within each other"
            )
    return None


def _node_faults(node: nodes.Node, variables: Collection[str]) -> Iterator[str]:
    match node:
        case nodes.Name(name=name):
            if name not in variables:
                there = ", ".join(sorted(variables))
                yield f"must use only the variables {there}" if there else "must use no variables"
            if node.ctx != "load":
                yield "must set no variables"
        case nodes.Filter(name=name):
            if name not in FILTERS or node.args or node.kwargs or node.dyn_args or node.dyn_kwargs:
                yield f"must use only the filters {', '.join(FILTERS)}"
        case nodes.Const(value=value):
            if not isinstance(value, str):
                yield "must have no numbers or other constants in its tags, only words in quotes"
        case nodes.Operand(op=op):
            if op not in ("eq", "ne"):
                yield "must compare only by == and !="
        case (
            nodes.Template()
            | nodes.Output()
            | nodes.TemplateData()
            | nodes.If()
            | nodes.Not()
            | nodes.And()
            | nodes.Or()
            | nodes.Compare()
        ):
            pass
        case _:
            yield "must have no tags but {{ variable }} and {% if %}: no loops, attributes, calls or macros"
            return
    for child in node.iter_child_nodes():
        yield from _node_faults(child, variables)
