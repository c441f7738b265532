"""Checks whether today's events and APIs keep what the last release promised.

One relation decides: does one schema accept everything that another allows? Data that we send (answers, and
events read by consumers of the last release) must be accepted by the released schema. Data that we accept
(requests, and events already in the log) must be accepted by today's schema if the released one did. Nothing
may be removed.

One thing may be added to what we accept: a bound on a field of an event that had none (ADR 27). It must lie
beyond what an honest publisher writes, which tests/contracts/test_claims.py shows; once released, it may only
widen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]

_SAY_NOTHING: Final = frozenset({"title", "description", "default", "examples", "deprecated", "$defs"})
_JUDGED: Final = frozenset(
    {"$ref", "anyOf", "type", "enum", "const", "properties", "required", "additionalProperties", "items"}
)
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_NAMES: Final = "pattern of names"
"""Our word for the one pattern of `patternProperties`."""
_SAME: Final = ("pattern", _NAMES, "format")
_REPEATED: Final = re.compile(r"(?<=[)\]])\{(\d+),(\d+)\}")
"""Bounds of repetition in a pattern."""
_BOUNDS: Final = (*_UPPER, *_LOWER, "pattern", _NAMES)


class CannotJudgeError(Exception):
    """A schema has a keyword without a rule here; add the rule."""


@dataclass(frozen=True)
class Document:
    """A document that schemas refer into."""

    root: Schema

    def resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            found: Any = self.root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        if "patternProperties" in schema:
            [(names, values)] = schema["patternProperties"].items()
            rest = {word: value for word, value in schema.items() if word != "patternProperties"}
            schema = {**rest, "additionalProperties": values, _NAMES: names}
        known = _SAY_NOTHING | _JUDGED | set(_UPPER) | set(_LOWER) | set(_SAME)
        if unknown := schema.keys() - known:
            raise CannotJudgeError(f"no rule for {sorted(unknown)}")
        return schema


@dataclass(frozen=True)
class Comparison:
    """`old` is the released document, `new` today's; `sent` gives the direction of values. `bounding`: what
    we accept may get bounds where it had none."""

    old: Document
    new: Document
    sent: bool
    bounding: bool = False

    def breaks(self, old: Schema, new: Schema, at: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        """The reasons why this schema's change is incompatible, each with its place; none when it is
        compatible."""
        pair = (str(old.get("$ref")), str(new.get("$ref")))
        if "None" not in pair and pair in seen:
            return
        seen |= {pair}
        old, new = self.old.resolved(old), self.new.resolved(new)
        wide, narrow = (old, new) if self.sent else (new, old)
        if "anyOf" in old or "anyOf" in new:
            yield from self._branches(wide, narrow, at, seen)
            return
        if self.bounding:
            wide = {word: value for word, value in wide.items() if word not in _BOUNDS or word in narrow}
        yield from _values(wide, narrow, at)
        yield from self._object(old, new, at, seen)
        if "items" in wide:
            yield from self.breaks(old.get("items", {}), new.get("items", {}), f"{at}[]", seen)

    def _branches(
        self, wide: Schema, narrow: Schema, at: str, seen: frozenset[tuple[str, str]]
    ) -> Iterator[str]:
        """Each alternative of the narrow schema must fit some alternative of the wide one."""
        for branch in narrow.get("anyOf", [narrow]):
            tried = []
            for place in wide.get("anyOf", [wide]):
                old, new = (place, branch) if self.sent else (branch, place)
                tried.append(list(self.breaks(old, new, at, seen)))
                if not tried[-1]:
                    break
            else:
                yield from min(tried, key=len)

    def _object(self, old: Schema, new: Schema, at: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in sorted(before.keys() - after.keys()):
            yield f"{at}.{name}: removed"
        wide, narrow = (old, new) if self.sent else (new, old)
        for name in sorted(set(wide.get("required", ())) - set(narrow.get("required", ()))):
            if name in after:
                yield f"{at}.{name}: {'no longer always there' if self.sent else 'newly required'}"
        for name in sorted(before.keys() & after.keys()):
            yield from self.breaks(before[name], after[name], f"{at}.{name}", seen)
        yield from self._rest(old, new, at, seen)

    def _rest(self, old: Schema, new: Schema, at: str, seen: frozenset[tuple[str, str]]) -> Iterator[str]:
        """Unnamed fields. Consumers of our data ignore fields they do not know."""
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if not self.sent and after is False and before is not False:
            yield f"{at}: unknown fields no longer taken"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from self.breaks(before, after, f"{at}.*", seen)


def _values(wide: Schema, narrow: Schema, at: str) -> Iterator[str]:
    """Checks of a single value: its type, the list it is on, its bounds."""
    allowed, possible = _listed(wide), _listed(narrow)
    if allowed is not None and (possible is None or not possible <= allowed):
        extra = "anything" if possible is None else ", ".join(sorted(possible - allowed))
        yield f"{at}: {extra} is not on the list"
    kinds = {wide.get("type"), narrow.get("type")}
    widened = (wide.get("type"), narrow.get("type")) == ("number", "integer")
    if wide.get("type") and len(kinds) > 1 and not widened:
        yield f"{at}: {narrow.get('type')} is no {wide['type']}"
    for bound in (*_UPPER, *_LOWER):
        if bound in wide and (bound not in narrow or _beyond(bound, narrow[bound], wide[bound])):
            yield f"{at}: {bound} {wide[bound]} against {narrow.get(bound, 'none')}"
    for word in _SAME:
        if word == "pattern" and _repeats_more(wide.get(word), narrow.get(word)):
            continue
        if word in wide and wide[word] != narrow.get(word) and possible is None:
            yield f"{at}: {word} {wide[word]} against {narrow.get(word, 'none')}"


def _repeats_more(wide: str | None, narrow: str | None) -> bool:
    """Whether two patterns differ in bounds of repetition alone, and those of `wide` contain the others."""
    if wide is None or narrow is None or _REPEATED.sub("", wide) != _REPEATED.sub("", narrow):
        return False
    pairs = zip(_REPEATED.findall(wide), _REPEATED.findall(narrow), strict=False)
    return all(int(a[0]) <= int(b[0]) and int(b[1]) <= int(a[1]) for a, b in pairs)


def _listed(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {repr(schema["const"])}
    return {repr(value) for value in schema["enum"]} if "enum" in schema else None


def _beyond(bound: str, narrow: float, wide: float) -> bool:
    return narrow > wide if bound in _UPPER else narrow < wide


def event_breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Breaks between events by type: `{"topic", "subject", "written": schema, "read": schema}`."""
    found = []
    for type_, before in old.items():
        after = new.get(type_)
        if after is None:
            found.append(f"{type_}: removed")
            continue
        found += [f"{type_}: another {key}" for key in ("topic", "subject") if before[key] != after[key]]
        for key, sent in (("written", True), ("read", False)):
            documents = Document(before[key]), Document(after[key])
            comparison = Comparison(*documents, sent, bounding=not sent)
            found += comparison.breaks(before[key], after[key], type_, frozenset())
    return list(dict.fromkeys(found))


def api_breaks(old: Schema, new: Schema) -> list[str]:
    """Breaks between two OpenAPI 3 documents of one service."""
    sent, taken = (Comparison(Document(old), Document(new), way) for way in (True, False))
    found: list[str] = []
    for path, operations in old["paths"].items():
        for method, before in operations.items():
            at = f"{method.upper()} {path}"
            after = new["paths"].get(path, {}).get(method)
            if after is None:
                found.append(f"{at}: removed")
                continue
            found += _parameter_breaks(before, after, at, taken)
            found += _body_breaks(before, after, at, taken)
            found += _answer_breaks(before, after, at, sent)
    return list(dict.fromkeys(found))


def _parameter_breaks(before: Schema, after: Schema, at: str, taken: Comparison) -> Iterator[str]:
    olds, news = (_parameters(operation) for operation in (before, after))
    for key, parameter in news.items():
        if parameter.get("required") and not olds.get(key, {}).get("required"):
            yield f"{at} {key[1]}: newly required"
    for key, parameter in olds.items():
        if key not in news:
            yield f"{at} {key[1]}: removed"
        else:
            yield from taken.breaks(parameter["schema"], news[key]["schema"], f"{at} {key[1]}", frozenset())


def _parameters(operation: Schema) -> dict[tuple[str, str], Any]:
    found: Sequence[Any] = operation.get("parameters", ())
    return {(parameter["in"], parameter["name"]): parameter for parameter in found}


def _body_breaks(before: Schema, after: Schema, at: str, taken: Comparison) -> Iterator[str]:
    old, new = before.get("requestBody", {}), after.get("requestBody", {})
    if new.get("required") and not old.get("required"):
        yield f"{at} body: newly required"
    yield from _content_breaks(old, new, f"{at} body", taken)


def _answer_breaks(before: Schema, after: Schema, at: str, sent: Comparison) -> Iterator[str]:
    for status, old in before["responses"].items():
        new = after["responses"].get(status)
        if new is None:
            yield f"{at} {status}: removed"
            continue
        for header in sorted(old.get("headers", {}).keys() - new.get("headers", {}).keys()):
            yield f"{at} {status} {header}: removed"
        yield from _content_breaks(old, new, f"{at} {status}", sent)


def _content_breaks(old: Schema, new: Schema, at: str, way: Comparison) -> Iterator[str]:
    for kind, content in old.get("content", {}).items():
        if kind not in new.get("content", {}):
            yield f"{at} {kind}: removed"
        else:
            yield from way.breaks(
                content.get("schema", {}), new["content"][kind].get("schema", {}), at, frozenset()
            )
