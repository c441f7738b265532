"""Every failure is a problem document that names the fault and repeats no input."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import APIRouter
from pydantic import ValidationError

from services.shared.errors import (
    ConflictError,
    FieldError,
    InvalidError,
    KeyReusedError,
    NotFoundError,
    ServiceError,
    StaleVersionError,
)
from services.shared.http.body import PROBLEM_SCHEMA
from services.shared.http.problem import Problem, invalid, problem_of, render
from services.shared.observability.logs import configure_logs
from services.shared.validation import field_error
from tests.unit.http.conftest import NewThing, client_of

PROBLEM_JSON = "application/problem+json"


def assert_problem(response: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_JSON
    document: dict[str, Any] = response.json()
    assert document["type"] == f"urn:sangathan:problem:{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


async def test_unknown_path(anonymous):
    assert_problem(await anonymous.get("/v1/nope"), 404, "not-found")


async def test_instance_names_the_request_and_nothing_that_the_caller_typed(anonymous):
    document = assert_problem(await anonymous.get('/v1/+919812345678/आशा "x"?q=secret'), 404, "not-found")
    assert document["instance"] == f"urn:sangathan:request:{document['request_id']}"


async def test_no_redirect_for_a_trailing_slash(anonymous):
    assert_problem(await anonymous.get("/v1/things/1/"), 404, "not-found")


async def test_wrong_method_names_every_right_one(anonymous):
    response = await anonymous.put("/v1/things/1")
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD, PATCH"


async def test_a_raised_problem_keeps_headers(anonymous):
    response = await anonymous.get("/teapot")
    assert_problem(response, 418, "teapot")
    assert response.headers["x-brew"] == "no"


async def test_extension_members(client):
    response = await client.post("/v1/things", json={"name": "Taken"})
    document = assert_problem(response, 409, "taken")
    assert document["existing_id"] == "1"


def test_extension_members_cannot_replace_the_standard_ones():
    answer = render(Problem(409, "x", "X", extra={"status": 200, "more": 1}), {"path": "/"})
    document = json.loads(bytes(answer.body))
    assert document["status"] == 409
    assert document["more"] == 1


@pytest.mark.parametrize("path", ["/boom", "/half"])
async def test_the_message_of_an_unexpected_error_is_neither_sent_nor_logged(anonymous, path):
    stream, root = io.StringIO(), logging.getLogger()
    before = (list(root.handlers), root.level, logging.raiseExceptions)
    configure_logs(service="s", instance="i", stream=stream)
    try:
        response = await anonymous.get(path)
    finally:
        root.handlers[:], root.level, logging.raiseExceptions = before
        structlog.reset_defaults()
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert line["error"] == "RuntimeError"
    assert "conftest.py" in line["raised"][0]["frames"][-1]
    assert line["level"] == "error"
    assert "request_id" in line
    assert "Asha" not in stream.getvalue() + response.text
    if path == "/boom":
        assert "detail" not in assert_problem(response, 500, "internal-error")


async def test_field_errors_point_at_the_body(client):
    body = {"name": "7", "count": "many", "when": "2020-13-01", "platforms": [{"platform": "x"}], "colour": 1}
    document = assert_problem(await client.post("/v1/things", json=body), 422, "invalid-fields")
    assert {error["pointer"]: error["detail"] for error in document["errors"]} == {
        "/name": "must contain a letter",
        "/count": "Input should be a valid integer, unable to parse string as an integer",
        "/when": "Input should be a valid datetime or date",
        "/platforms/0/handle": "Field required",
        "/colour": "unknown field",
    }
    assert all(error["in"] == "body" for error in document["errors"])


async def test_parameters_are_told_apart_from_the_body(anonymous):
    response = await anonymous.get("/numbers/x?big=y", headers={"X-Flag": "z"})
    document = assert_problem(response, 422, "invalid-fields")
    found = {(error["in"], error["pointer"]) for error in document["errors"]}
    assert found == {("path", "/n"), ("query", "/big"), ("header", "/X-Flag")}


SECRETS = ["+919812345678", "asha@example.org", "आशा देवी", "zzSECRETzz"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "body_of",
    [
        lambda s: {"name": s * 60},
        lambda s: {"name": [s]},
        lambda s: {"name": "Asha", "count": f"{s}!"},
        lambda s: {"name": "Asha", "when": f"{s}!"},
        lambda s: {"name": "Asha", "platforms": s},
        lambda s: {"name": "Asha", "platforms": [s]},
        lambda s: {"name": "Asha", "platforms": [{"platform": "x", "handle": {s: s}}]},
        lambda s: s,
        lambda s: [s],
    ],
)
async def test_no_answer_repeats_a_value(client, secret, body_of):
    response = await client.post("/v1/things", json=body_of(secret))
    assert_problem(response, 422, "invalid-fields")
    assert secret not in response.text
    assert json.dumps(secret)[1:-1] not in response.text


@pytest.mark.parametrize("secret", SECRETS[:3])
async def test_no_answer_repeats_a_key_that_is_no_field_name(client, secret):
    response = await client.post("/v1/things", json={"name": "Asha", secret: 1})
    document = assert_problem(response, 422, "invalid-fields")
    assert document["errors"] == [{"pointer": "", "in": "body", "detail": "unknown field"}]


@pytest.mark.parametrize(
    ("kind", "message", "said"),
    [
        ("value_error", "Value error, +91 98 is bad", "is not valid"),
        ("union_tag_invalid", "Input tag 'asha' found", "is not valid"),
        ("uuid_parsing", "Input should be a valid UUID, found `z` at 1", "Input should be a valid UUID"),
        ("refused", "must contain a letter", "must contain a letter"),
        ("something_new", "asha", "is not valid"),
    ],
)
def test_only_validation_messages_without_input_are_passed_on(kind, message, said):
    error = {"type": kind, "msg": message, "loc": ("body", "x"), "input": "asha"}
    assert field_error(error) == FieldError("/x", said, "body")


async def test_a_body_with_many_faults_gets_a_bounded_answer(client):
    response = await client.post("/v1/things", json={"name": "Asha", "platforms": [1] * 9_000})
    assert len(assert_problem(response, 422, "invalid-fields")["errors"]) == 50


def test_validation_errors_hide_their_input_even_as_text():
    with pytest.raises(ValidationError) as refusal:
        NewThing.model_validate({"name": "Asha", "count": "zzSECRETzz"})
    assert "zzSECRETzz" not in str(refusal.value)


def test_invalid_keeps_its_field_errors():
    problem = invalid([FieldError("/unit", "no such unit")])
    assert problem.status == 422
    assert problem.errors[0].pointer == "/unit"


async def test_openapi_documents_problems_only(anonymous):
    schema = (await anonymous.get("/openapi.json")).json()
    assert "HTTPValidationError" not in json.dumps(schema)
    assert PROBLEM_SCHEMA in schema["components"]["schemas"]
    create = schema["paths"]["/v1/things"]["post"]
    errors = {status for status in create["responses"] if status >= "400"}
    assert errors == {"400", "401", "403", "409", "413", "415", "422", "429", "503"}
    assert all(PROBLEM_JSON in create["responses"][status]["content"] for status in errors)
    assert create["security"] == [{"bearer": []}]
    change = schema["paths"]["/v1/things/{id}"]["patch"]
    assert {"404", "412", "428"} <= set(change["responses"])


async def test_docs_are_served(anonymous):
    response = await anonymous.get("/docs")
    assert response.status_code == 200
    assert "/openapi.json" in response.text


def test_a_router_without_our_route_class_is_refused(make_app):
    router = APIRouter()
    router.add_api_route("/plain", lambda: None)
    with pytest.raises(TypeError, match="/plain"):
        make_app(routers=[router])


async def test_fixed_paths_win_over_parameters(make_app):
    from services.shared.http.body import Route

    router = APIRouter(route_class=Route)

    @router.get("/m/{id}")
    async def by_id(id: str) -> str:
        return "id"

    @router.get("/m/export")
    async def export() -> str:
        return "export"

    async with client_of(make_app(routers=[router])) as client:
        assert (await client.get("/m/export")).json() == "export"
        assert (await client.get("/m/7")).json() == "id"


@pytest.mark.parametrize(
    ("error", "status", "slug", "title"),
    [
        (NotFoundError(), 404, "not-found", "Not found"),
        (ConflictError("taken", "the name is taken"), 409, "taken", "Conflict"),
        (StaleVersionError(), 412, "stale-version", "Precondition failed"),
        (
            InvalidError([FieldError("/a", "is wrong")]),
            422,
            "invalid-fields",
            "The request has invalid fields",
        ),
        (InvalidError(reason="invalid-units", title="Not loaded"), 422, "invalid-units", "Not loaded"),
        (KeyReusedError(), 422, "idempotency-key-reused", "Idempotency key reused"),
    ],
)
def test_service_errors_become_problems(error: ServiceError, status: int, slug: str, title: str) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.slug, problem.title) == (status, slug, title)
    assert problem.errors == error.fields


def test_a_subclass_of_a_service_error_maps_like_its_base() -> None:
    class PhoneTaken(ConflictError):
        def __init__(self) -> None:
            super().__init__("phone-taken", extra={"member_id": "1"})

    problem = problem_of(PhoneTaken())
    assert (problem.status, problem.slug, problem.extra) == (409, "phone-taken", {"member_id": "1"})
