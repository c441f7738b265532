"""Requests to the four APIs: no patch has a default, and no value has a second form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from pydantic import TypeAdapter, ValidationError

from services.shared.http.body import Route
from tests.contracts.release import APPS

NO_TIMES = [
    "20261126",
    "0",
    "1e9",
    "2026-11-26 00:00",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31",
    "0001-01-01",
]
NO_INTEGERS = ["1e1", " 5", "5.0", "1_0", "+5"]


def resolved(
    schema: Any, root: dict[str, Any], seen: frozenset[str] = frozenset()
) -> Iterator[dict[str, Any]]:
    """The schema and all that it refers to or contains."""
    if isinstance(schema, list):
        for each in schema:
            yield from resolved(each, root, seen)
    elif isinstance(schema, dict):
        yield schema
        if (ref := schema.get("$ref")) and ref not in seen:
            yield from resolved(root["components"]["schemas"][ref.rpartition("/")[2]], root, seen | {ref})
        for each in schema.values():
            if isinstance(each, dict | list):
                yield from resolved(each, root, seen)


def bodies(service: str, method: str | None = None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    root = APPS[service].openapi()
    for path, operations in root["paths"].items():
        for verb, operation in operations.items():
            if verb == method or (method is None and "requestBody" in operation):
                yield f"{verb} {path}", list(resolved(operation["requestBody"], root))


def test_no_patch_has_a_default() -> None:
    """A client made by a generator sends it, and with a link sets a capacity of 1."""
    patches = {name: schemas for service in APPS for name, schemas in bodies(service, "patch")}
    assert len(patches) >= 2
    assert [name for name, schemas in patches.items() if any("default" in each for each in schemas)] == []


def queries() -> Iterator[tuple[str, TypeAdapter[Any]]]:
    for service, app in APPS.items():
        for route in app.routes:
            waiting = [route.dependant] if isinstance(route, Route) else []
            while waiting:
                dependant = waiting.pop()
                waiting += dependant.dependencies
                for field in get_flat_params(Dependant(query_params=dependant.query_params)):
                    # Without the field itself: alone, a type has no use for an alias, and pydantic says so.
                    kind: Any = Annotated[field.field_info.annotation, None, *field.field_info.metadata]
                    yield f"{service} {dependant.path} {field.alias}", TypeAdapter(kind)


def test_times_and_numbers_of_queries_have_one_form() -> None:
    tried = set()
    for name, adapter in queries():
        schema = adapter.json_schema()
        parts = list(resolved(schema, {"components": {"schemas": schema.get("$defs", {})}}))
        times = any(each.get("format") in {"date", "date-time"} for each in parts)
        if times or any(each.get("type") == "integer" for each in parts):
            tried.add(name.rpartition(" ")[2])
            for typed in NO_TIMES if times else NO_INTEGERS:
                with pytest.raises(ValidationError):
                    pytest.fail(f"{name} takes {adapter.validate_python(typed)}")
    assert tried == {"limit", "since", "until", "from", "to", "on", "taken_at", "constituency", "at"}


def test_no_body_has_a_time_that_pydantic_alone_would_read() -> None:
    """A body with a time says `Timestamp` or `Day`."""
    tried = set()
    for app in APPS.values():
        for route in app.routes:
            given = getattr(route, "body_field", None)
            body = given.field_info.annotation if given else None
            models = [body, *get_args(body)]
            fields = (each for model in models for each in getattr(model, "model_fields", {}).items())
            for name, field in fields:
                kind: Any = (
                    Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
                )
                adapter = TypeAdapter(kind)
                schema = adapter.json_schema()
                parts = resolved(schema, {"components": {"schemas": schema.get("$defs", {})}})
                if any(each.get("format") in {"date", "date-time"} for each in parts):
                    tried.add(name)
                    for typed in NO_TIMES:
                        with pytest.raises(ValidationError):
                            pytest.fail(f"{name} takes {adapter.validate_python(typed)}")
    with_times = {
        name
        for service in APPS
        for name, schemas in bodies(service)
        if any(each.get("format") in {"date", "date-time"} for each in schemas)
    }
    assert with_times == {
        "patch /v1/incidents/{id}",
        "post /v1/incidents",
        "put /v1/incidents/{id}/affected",
        "put /v1/members/{id}/roles/{role}",
        "put /v1/policies",
    }
    assert tried == {"detected_at", "done", "silence_windows", "since", "until"}


def test_every_route_is_strict() -> None:
    """`/livez`, `/readyz`, `/metrics` and the documentation are not of the API."""
    for app in APPS.values():
        for route in app.routes:
            assert isinstance(route, Route) or not getattr(route, "path", "").startswith("/v1")
