"""Compares today's events and APIs with those of the last release; and tests each rule with examples of both
verdicts."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.compatibility import (
    CannotJudgeError,
    Comparison,
    Document,
    api_breaks,
    event_breaks,
)
from tests.contracts.release import APPS, RELEASED, events, freeze, kept, today, versions

LAST = versions()[-1]
TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
A_OR_B, A_B_OR_C = {"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b", "c"]}
NULLABLE = {"anyOf": [TEXT, {"type": "null"}]}
ASKED_FOR = re.compile(
    r"/v1/ops/dead-letters.*state: 'set_aside' is not on the list"
    r"|/v1/timeseries 200.metric: ('members.(merged|redrawn_in|redrawn_out|unmerged)'(, )?)+ is not on the"
)
"""A word that only those get who ask for it by a parameter that the last release refuses."""


def test_events_are_compatible_with_the_last_release() -> None:
    assert event_breaks(kept(LAST)["events"], events()) == []


@pytest.mark.parametrize("service", APPS)
def test_apis_are_compatible_with_the_last_release(service: str) -> None:
    breaks = api_breaks(kept(LAST)[service], APPS[service].openapi())
    assert [found for found in breaks if not ASKED_FOR.search(found)] == []


@pytest.mark.parametrize("version", versions())
def test_a_release_has_kept_everything(version: str) -> None:
    assert kept(version).keys() == today().keys()


def test_a_release_is_kept_once(tmp_path: Path) -> None:
    freeze(tmp_path, "1.0.0")
    assert {path.name for path in (tmp_path / "1.0.0").iterdir()} == {
        path.name for path in (RELEASED / LAST).iterdir()
    }
    with pytest.raises(FileExistsError):
        freeze(tmp_path, "1.0.0")


def thing(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def breaks(old: Any, new: Any, *, sent: bool) -> list[str]:
    return list(Comparison(Document(old), Document(new), sent).breaks(old, new, "it", frozenset()))


CHANGES: dict[str, tuple[Any, Any, bool, bool]] = {
    # old, new, compatible in what we send, compatible in what we take
    "nothing": (thing(a=TEXT), thing(a=TEXT), True, True),
    "words about it": (thing(a=TEXT), thing(a={**TEXT, "description": "x", "default": ""}), True, True),
    "a new optional field": (thing(a=TEXT), thing(a=TEXT, b=TEXT), True, True),
    "a new required field": (thing(a=TEXT), thing(("b",), a=TEXT, b=TEXT), True, False),
    "a field removed": (thing(a=TEXT, b=TEXT), thing(a=TEXT), False, False),
    "a field renamed": (thing(a=TEXT), thing(b=TEXT), False, False),
    "a field no longer required": (thing(("a",), a=TEXT), thing(a=TEXT), False, True),
    "a field now required": (thing(a=TEXT), thing(("a",), a=TEXT), True, False),
    "another type": (thing(a=TEXT), thing(a=NUMBER), False, False),
    "a wider type": (thing(a=NUMBER), thing(a={"type": "number"}), False, True),
    "a narrower type": (thing(a={"type": "number"}), thing(a=NUMBER), True, False),
    "no type any more": (thing(a=TEXT), thing(a={}), False, True),
    "now nullable": (thing(a=TEXT), thing(a=NULLABLE), False, True),
    "no longer nullable": (thing(a=NULLABLE), thing(a=TEXT), True, False),
    "a word more": (thing(a=A_OR_B), thing(a=A_B_OR_C), False, True),
    "a word less": (thing(a=A_B_OR_C), thing(a=A_OR_B), True, False),
    "one word where a list was": (thing(a=A_OR_B), thing(a={"type": "string", "const": "a"}), True, False),
    "a list where anything was": (thing(a=TEXT), thing(a=A_OR_B), True, False),
    "an upper bound": (thing(a=TEXT), thing(a={**TEXT, "maxLength": 5}), True, False),
    "a higher upper bound": ({**TEXT, "maxLength": 5}, {**TEXT, "maxLength": 6}, False, True),
    "a higher lower bound": ({**NUMBER, "minimum": 1}, {**NUMBER, "minimum": 2}, True, False),
    "another pattern": ({**TEXT, "pattern": "a"}, {**TEXT, "pattern": "b"}, False, False),
    "a pattern that repeats more": (
        {**TEXT, "pattern": "^[A-Z]{1,12}(-[A-Z]{1,12}){0,3}$"},
        {**TEXT, "pattern": "^[A-Z]{1,12}(-[A-Z]{1,12}){0,7}$"},
        False,
        True,
    ),
    "a pattern that repeats less": (
        {**TEXT, "pattern": "^[A-Z]{1,12}$"},
        {**TEXT, "pattern": "^[A-Z]{1,11}$"},
        True,
        False,
    ),
    "no pattern any more": ({**TEXT, "pattern": "a"}, TEXT, False, True),
    "a format": (TEXT, {**TEXT, "format": "date"}, True, False),
    "in an array": (
        {"type": "array", "items": thing(a=TEXT)},
        {"type": "array", "items": thing(a=NUMBER)},
        False,
        False,
    ),
    "no more in an array": (
        {"type": "array", "items": thing(a=TEXT)},
        {"type": "array", "items": thing(a=TEXT, b=TEXT)},
        True,
        True,
    ),
    "unknown fields refused": (
        thing(a=TEXT),
        {**thing(a=TEXT), "additionalProperties": False},
        True,
        False,
    ),
    "names of a map": (
        {"type": "object", "additionalProperties": TEXT},
        {"type": "object", "patternProperties": {"a": TEXT}, "maxProperties": 5},
        True,
        False,
    ),
    "values of a map": (
        {"type": "object", "additionalProperties": TEXT},
        {"type": "object", "additionalProperties": NUMBER},
        False,
        False,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_schema(change: str) -> None:
    old, new, when_sent, when_taken = CHANGES[change]
    assert (breaks(old, new, sent=True) == []) is when_sent
    assert (breaks(old, new, sent=False) == []) is when_taken


def test_references_are_compared_even_when_recursive() -> None:
    def tree(leaf: Any) -> dict[str, Any]:
        node = thing(leaf=leaf, below={"type": "array", "items": {"$ref": "#/$defs/Node"}})
        return {"$ref": "#/$defs/Node", "$defs": {"Node": node}}

    assert breaks(tree(TEXT), tree(TEXT), sent=True) == []
    assert breaks(tree(TEXT), tree(NUMBER), sent=True) == ["it.leaf: integer is no string"]


def test_a_keyword_without_a_rule_raises() -> None:
    with pytest.raises(CannotJudgeError, match="multipleOf"):
        breaks({**NUMBER, "multipleOf": 2}, NUMBER, sent=True)


def an_event(schema: Any, topic: str = "t", subject: str = "a") -> dict[str, Any]:
    return {"x.happened": {"topic": topic, "subject": subject, "written": schema, "read": schema}}


def test_events_may_only_grow() -> None:
    old = an_event(thing(("a",), a=TEXT))
    assert event_breaks(old, an_event(thing(("a",), a=TEXT, b=TEXT))) == []
    assert event_breaks(old, {**old, "y.happened": old["x.happened"]}) == []
    assert event_breaks(old, {}) == ["x.happened: removed"]
    assert event_breaks(old, an_event(thing(("a", "b"), a=TEXT, b=TEXT))) == ["x.happened.b: newly required"]
    assert event_breaks(old, an_event(thing(("a",), a=NULLABLE))) != []
    bounded = an_event(thing(("a",), a={**TEXT, "maxLength": 5, "pattern": "x"}))
    assert event_breaks(old, bounded) == [], "a field without a bound may get one"
    narrower = an_event(thing(("a",), a={**TEXT, "maxLength": 4, "pattern": "x"}))
    assert event_breaks(bounded, narrower) == ["x.happened.a: maxLength 4 against 5"]
    assert event_breaks(bounded, an_event(thing(("a",), a={**TEXT, "maxLength": 5, "pattern": "y"}))) != []
    assert event_breaks(old, an_event(thing(("a",), a=TEXT), topic="u")) == ["x.happened: another topic"]
    assert event_breaks(old, an_event(thing(("a",), a=TEXT), subject="b")) == ["x.happened: another subject"]


def api(**changes: Any) -> dict[str, Any]:
    """One operation, with `changes` to it."""
    json_of = lambda schema: {"content": {"application/json": {"schema": schema}}}  # noqa: E731
    operation = {
        "parameters": [{"in": "query", "name": "limit", "required": False, "schema": NUMBER}],
        "requestBody": {"required": False, **json_of(thing(a=TEXT))},
        "responses": {
            "201": {**json_of(thing(("id",), id=TEXT)), "headers": {"ETag": {}}},
            "409": json_of(thing(type=TEXT)),
        },
    }
    operation = copy.deepcopy(operation) | changes
    return {"paths": {"/v1/things": {"post": operation}}}


def answers(**changes: Any) -> dict[str, Any]:
    before = api()["paths"]["/v1/things"]["post"]["responses"]
    return api(responses={status: value for status, value in (before | changes).items() if value is not None})


def limit(**changes: Any) -> dict[str, Any]:
    parameter = {"in": "query", "name": "limit", "required": False, "schema": NUMBER} | changes
    return api(parameters=[parameter])


def body(schema: Any, kind: str = "application/json", *, required: bool = False) -> dict[str, Any]:
    return api(requestBody={"required": required, "content": {kind: {"schema": schema}}})


OPERATIONS: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": (api(), True),
    "another route": ({"paths": {**api()["paths"], "/v1/more": {}}}, True),
    "the route removed": ({"paths": {}}, False),
    "the method removed": ({"paths": {"/v1/things": {}}}, False),
    "a status more": (answers(**{"410": {}}), True),
    "a status removed": (answers(**{"409": None}), False),
    "a header removed": (
        answers(**{"201": {"content": {"application/json": {"schema": thing(("id",), id=TEXT)}}}}),
        False,
    ),
    "a field more in the answer": (
        answers(
            **{
                "201": {
                    "content": {"application/json": {"schema": thing(("id",), id=TEXT, b=TEXT)}},
                    "headers": {"ETag": {}},
                }
            }
        ),
        True,
    ),
    "a field less in the answer": (
        answers(
            **{"201": {"content": {"application/json": {"schema": thing()}}, "headers": {"ETag": {}}}}
        ),
        False,
    ),
    "another kind of answer": (
        answers(**{"201": {"content": {"text/csv": {}}, "headers": {"ETag": {}}}}),
        False,
    ),
    "a parameter more": (
        api(
            parameters=[
                *api()["paths"]["/v1/things"]["post"]["parameters"],
                {"in": "query", "name": "b", "schema": TEXT},
            ]
        ),
        True,
    ),
    "a parameter that is required": (
        api(
            parameters=[
                *api()["paths"]["/v1/things"]["post"]["parameters"],
                {"in": "query", "name": "b", "required": True, "schema": TEXT},
            ]
        ),
        False,
    ),
    "a parameter removed": (api(parameters=[]), False),
    "a parameter now required": (limit(required=True), False),
    "a parameter narrowed": (limit(schema={**NUMBER, "maximum": 5}), False),
    "a parameter widened": (limit(schema={"type": "number"}), True),
    "an optional field more in the body": (body(thing(a=TEXT, b=TEXT)), True),
    "a required field more in the body": (body(thing(("b",), a=TEXT, b=TEXT)), False),
    "the body now required": (body(thing(a=TEXT), required=True), False),
    "another kind of body": (body(thing(a=TEXT), "text/csv"), False),
}  # fmt: skip


@pytest.mark.parametrize("change", OPERATIONS)
def test_a_change_of_an_api(change: str) -> None:
    new, compatible = OPERATIONS[change]
    assert (api_breaks(api(), new) == []) is compatible


def test_the_rules_catch_breaks_of_the_real_contracts() -> None:
    """The rules find breaks in the kept documents, not only in made-up ones."""
    released = kept(LAST)
    gone = copy.deepcopy(released)
    del gone["events"]["member.joined"]["written"]["properties"]["unit"]
    assert event_breaks(released["events"], gone["events"]) == ["member.joined.unit: removed"]
    del gone["members"]["paths"]["/v1/members"]["post"]
    assert api_breaks(released["members"], gone["members"]) == ["POST /v1/members: removed"]
    gone["groups"]["components"]["schemas"]["UnitIn"]["required"].append("women_target")
    assert any(
        "women_target: newly required" in found for found in api_breaks(released["groups"], gone["groups"])
    )
