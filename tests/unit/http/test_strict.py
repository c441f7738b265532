"""Nothing that a request says is ignored: what a route does not take is refused."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any

import httpx2
import orjson
import pytest
from fastapi import APIRouter, Depends, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from services.shared.http.body import Route
from services.shared.http.etag import IfMatchIfSent, Preconditions
from services.shared.http.problem import Problem
from services.shared.http.strict import check_keys
from services.shared.http.values import Canonical, Day, Digits, Timestamp
from tests.unit.http.conftest import Reader, Writer, client_of
from tests.unit.http.test_problem import assert_problem


class Filters(BaseModel):
    unit: str | None = None
    q: str | None = None


async def page(limit: Annotated[int, Query(), Digits] = 5) -> int:
    return limit


def router() -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/people")
    async def people(
        _: Reader, filters: Annotated[Filters, Query()], limit: Annotated[int, Depends(page)]
    ) -> dict[str, Any]:
        return {"limit": limit, **filters.model_dump()}

    @router.get("/times")
    async def times(since: Timestamp | None = None, day: Day | None = None) -> list[Any]:
        return [since, day]

    @router.post("/reset")
    async def reset(_: Writer) -> str:
        return "done"

    @router.delete("/people/{id}")
    async def leave(id: Annotated[str, Canonical], _: Writer, version: IfMatchIfSent) -> list[Any]:
        return [id, version]

    @router.put("/units/{version}")
    async def put(version: int, _: Writer, conditions: Preconditions) -> str:
        conditions.check(version or None)
        return "written"

    return router


@pytest.fixture
async def caller(make_app, token):
    async with client_of(make_app(routers=[router()]), {"Authorization": f"Bearer {token()}"}) as client:
        yield client


async def refused(answer: Any, pointer: str, detail: str, where: str) -> None:
    [error] = assert_problem(answer, 422, "invalid-fields")["errors"]
    assert (error["pointer"], error["detail"], error["in"]) == (pointer, detail, where)


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("unti=BR", "/unti", "unknown parameter"),
        ("Unit=BR", "/Unit", "unknown parameter"),
        ("dry-run=true&unit=BR", "/dry-run", "unknown parameter"),
        ("unti", "/unti", "unknown parameter"),
        ("filters=x", "/filters", "unknown parameter"),
        ("unit=BR&unit=UP", "/unit", "is given more than once"),
        ("unit=BR&un%69t=UP", "/unit", "is given more than once"),
        ("limit=1&limit=", "/limit", "is given more than once"),
        ("+919812345678=", "", "unknown parameter"),
        ("9812345678=x", "", "unknown parameter"),
        ("x" * 41 + "=x", "", "unknown parameter"),
        ("%FF=x", "", "unknown parameter"),
    ],
)
async def test_an_unknown_or_repeated_parameter_is_refused(caller, query, pointer, detail):
    await refused(await caller.get(f"/v1/people?{query}"), pointer, detail, "query")


async def test_known_parameters_pass(caller):
    answer = await caller.get("/v1/people?unit=BR&q=&limit=7")
    assert answer.json() == {"limit": 7, "unit": "BR", "q": ""}


async def test_a_thousand_unknown_parameters_are_answered_with_fifty_errors(caller):
    answer = await caller.get("/v1/people?" + "&".join(f"x{n}=" for n in range(1000)))
    assert len(answer.json()["errors"]) == 50


async def test_the_caller_is_checked_first(make_app):
    async with client_of(make_app(routers=[router()])) as client:
        assert_problem(await client.get("/v1/people?unti=BR"), 401, "unauthenticated")


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, deflate", "x-gzip"])
async def test_a_content_coding_is_refused(client, coding):
    answer = await client.post("/v1/things", json={"name": "Asha"}, headers={"Content-Encoding": coding})
    assert_problem(answer, 415, "unsupported-content-coding")
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "", "Identity"])
async def test_no_content_coding_is_none(client, coding):
    answer = await client.post("/v1/things", json={"name": "Asha"}, headers={"Content-Encoding": coding})
    assert answer.status_code == 201


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_refused_where_none_is_taken(caller, method, chunked):
    async def chunks() -> Any:
        yield b'{"unit": "BR"}'

    path = {"POST": "/v1/reset", "GET": "/v1/people", "DELETE": "/v1/people/1"}[method]
    content: Any = chunks() if chunked else b'{"unit": "BR"}'
    await refused(await caller.request(method, path, content=content), "", "no body is taken here", "body")


async def test_an_empty_body_is_no_body(caller):
    assert (await caller.post("/v1/reset", headers={"Content-Length": "0"})).json() == "done"


@pytest.mark.parametrize(
    ("method", "path", "pieces"),
    [
        ("POST", "/v1/reset", ()),
        ("GET", "/v1/people", (b"",)),
        ("DELETE", "/v1/people/A", (b"", b"")),
        ("HEAD", "/v1/people", ()),
    ],
)
async def test_an_empty_chunked_body_is_no_body(caller, method, path, pieces):
    """Gateways that speak HTTP/2 send one; so does `curl -H 'Transfer-Encoding: chunked' -d ''`."""

    async def chunks() -> Any:
        for piece in pieces:
            yield piece

    answer = await caller.request(method, path, content=chunks())
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == 200


async def test_a_chunked_body_is_read_up_to_its_first_byte(caller):
    read = []

    async def chunks() -> Any:
        for piece in (b"", b"x", b"y"):
            read.append(piece)
            yield piece

    await refused(await caller.post("/v1/reset", content=chunks()), "", "no body is taken here", "body")
    assert read == [b"", b"x"]


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match", "If-Unmodified-Since"])
async def test_a_precondition_that_nobody_checks_is_refused(caller, header):
    detail = "is not checked here: nothing that this changes has a version"
    await refused(await caller.post("/v1/reset", headers={header: '"1"'}), f"/{header}", detail, "header")


async def test_an_idempotency_key_where_no_answer_is_kept_is_refused(caller):
    detail = "is not kept here; look what has changed before you repeat it"
    answer = await caller.post("/v1/reset", headers={"Idempotency-Key": "k"})
    await refused(answer, "/Idempotency-Key", detail, "header")


async def test_a_safe_route_needs_no_precondition(caller):
    assert (await caller.get("/v1/people", headers={"If-None-Match": '"1"'})).status_code == 200


@pytest.mark.parametrize("header", ["Authorization", "Content-Type", "If-Match"])
async def test_a_header_of_one_value_is_not_repeated(client, header, token):
    values = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json", "If-Match": '"1"'}
    headers = [("Authorization", values["Authorization"]), ("Content-Type", "application/json")]
    headers += [(header, values.get(header, "k"))] * (1 if header in dict(headers) else 2)
    request = httpx2.Request("PATCH", "http://things/v1/things/1", headers=headers, content=b'{"name": "A"}')
    await refused(await client.send(request), f"/{header}", "is sent more than once", "header")


@pytest.mark.parametrize(
    ("sent", "version"),
    [({}, None), ({"If-Match": '"7"'}, 7)],
)
async def test_if_match_where_it_is_optional(caller, sent, version):
    assert (await caller.delete("/v1/people/A", headers=sent)).json() == ["A", version]


@pytest.mark.parametrize(
    ("tag", "status"), [('W/"7"', 412), ('"x"', 412), ("7", 400), ('"1", "2"', 400), ("*", 428)]
)
async def test_if_match_where_it_is_optional_is_never_ignored(caller, tag, status):
    assert (await caller.delete("/v1/people/A", headers={"If-Match": tag})).status_code == status


@pytest.mark.parametrize(
    ("version", "header", "value", "status"),
    [
        (0, "If-Match", "*", 412),
        (0, "If-Match", '"1"', 412),
        (3, "If-Match", "*", 200),
        (3, "If-Match", '"3"', 200),
        (3, "If-Match", '"2"', 412),
        (3, "If-Match", 'W/"3"', 412),
        (3, "If-Match", "3", 400),
        (0, "If-None-Match", "*", 200),
        (3, "If-None-Match", "*", 412),
        (3, "If-None-Match", '"3"', 412),
        (3, "If-None-Match", 'W/"3"', 412),
        (3, "If-None-Match", '"2"', 200),
        (3, "If-None-Match", '"2", "3"', 400),
    ],
)
async def test_conditions_on_a_path_that_the_caller_chooses(caller, version, header, value, status):
    assert (await caller.put(f"/v1/units/{version}", headers={header: value})).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "Asha", "name": "Usha"}',
        b'{"name": "Asha", "n\\u0061me": "Usha"}',
        b'{"name" : "Asha", "name"\n:"Usha"}',
        b'{"name": ":", "count": 1, "count" \t: 1}',
    ],
)
async def test_a_repeated_field_is_refused(client, body):
    field = "/count" if b"count" in body else "/name"
    answer = await client.post("/v1/things", content=body, headers={"Content-Type": "application/json"})
    await refused(answer, field, "is given more than once", "body")


async def test_a_repeated_field_is_found_at_any_depth_and_not_quoted(client):
    body = b'{"name": "A", "platforms": [{"platform": "x", "+919812345678": 1, "+919812345678": 2}]}'
    answer = await client.post("/v1/things", content=body, headers={"Content-Type": "application/json"})
    await refused(answer, "", "is given more than once", "body")


VALUES = st.recursive(
    st.none() | st.integers(0, 9) | st.text('a":\\ ,{}', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(st.text('ab":', max_size=2), inner), max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES, st.sampled_from(["", " ", "\n\t"]))
def test_exactly_the_texts_with_repeated_members_are_refused(value, space):
    """Written out by hand, for no library writes a member twice. A list of pairs stands for an object."""
    repeated = False

    def written(value: Any) -> str:
        nonlocal repeated
        if isinstance(value, list) and value and all(isinstance(each, tuple) for each in value):
            names = [name for name, _ in value]
            repeated |= len(set(names)) < len(names)
            members = [f"{orjson.dumps(name).decode()}{space}:{space}{written(each)}" for name, each in value]
            return "{" + ",".join(members) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(written, value)) + "]"
        return orjson.dumps(value).decode()

    text = written(value).encode()
    with pytest.raises(Problem, match="422") if repeated else nullcontext():
        check_keys(text, orjson.loads(text))


@pytest.mark.parametrize(
    "typed",
    [
        "20261126",
        "1790000000",
        "2026-11-26",
        "2026-11-26T12:00:00",
        "2026-11-26 12:00:00Z",
        "2026-11-26T24:00:00Z",
        "2026-02-30T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00%2B14:00",
        "1969-12-31T23:59:59Z",
        "2026-11-26T12:00:00%2B24:00",
        "२०२६-११-२६T00:00:00Z",
    ],
)
async def test_only_an_instant_of_rfc_3339_that_every_store_can_hold_is_a_timestamp(caller, typed):
    assert_problem(await caller.get(f"/v1/times?since={typed}"), 422, "invalid-fields")


async def test_a_timestamp_is_in_utc(caller):
    answer = await caller.get("/v1/times?since=2026-11-26t05:30:00.25%2B05:30&day=2026-11-26")
    assert answer.json() == ["2026-11-26T00:00:00.250000Z", "2026-11-26"]


@pytest.mark.parametrize(
    "typed", ["20261126", "86400", "2026-11-26T00:00:00Z", "0001-01-01", "9999-12-31", "2026-02-30"]
)
async def test_a_day_is_written_in_one_way(caller, typed):
    assert_problem(await caller.get(f"/v1/times?day={typed}"), 422, "invalid-fields")


@pytest.mark.parametrize("typed", ["1e1", " 5", "5.0", "1_0", "%2B5", "05", "", "٥", "9" * 30])
async def test_a_number_is_written_in_digits(caller, typed):
    assert_problem(await caller.get(f"/v1/people?limit={typed}"), 422, "invalid-fields")


async def test_an_id_has_one_form(caller):
    id_ = "0190e4a2-7b1c-7d3e-8f4a-1b2c3d4e5f60"
    assert (await caller.delete(f"/v1/people/{id_.upper()}")).json() == [id_, None]


async def test_every_get_answers_head(client):
    for path in ("/v1/things/1", "/v1/things", "/v1/things?limit=0", "/v1/things/1?unit=UP", "/livez"):
        get, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.headers["content-type"]) == (
            get.status_code,
            get.headers["content-type"],
        )
    assert (await client.head("/v1/things/1", headers={"Authorization": ""})).status_code == 401
    assert "HEAD" not in (await client.get("/openapi.json")).text


async def test_no_answer_is_kept_or_guessed_at(client):
    for answer in (await client.get("/v1/things/1"), await client.get("/v1/nope"), await client.get("/boom")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
