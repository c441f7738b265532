"""Request ids, traces, metrics, load shedding and health."""

from __future__ import annotations

import asyncio
import re

import httpx2
import pytest
from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from services.shared.http.auth import require
from services.shared.http.body import Route
from services.shared.http.draining import Draining
from services.shared.http.health import Readiness
from services.shared.observability.correlation import (
    RequestContext,
    continued,
    current_context,
    new_traceparent,
    valid,
    working_for,
)
from tests.unit.http.conftest import client_of, odd_router
from tests.unit.http.test_problem import assert_problem

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "given", [TRACE, "0190E4A2-7B1C-7d3e-8f4a-1b2c3d4e5f60", "01ARZ3NDEKTSV4RRFFQ69G5FAV"]
)
async def test_a_request_id_of_a_proxy_is_kept_and_echoed(anonymous, given):
    response = await anonymous.get("/context", headers={"X-Request-ID": given})
    assert response.json()["request_id"] == response.headers["x-request-id"] == given


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a b",
        "x" * 65,
        "<script>",
        "a\u00e9",
        "+919812345678",
        "9812345678",
        "asha-devi",
        "1234567890123456",
    ],
)
async def test_a_request_id_that_does_not_look_like_one_is_replaced(anonymous, bad):
    response = await anonymous.get("/context", headers={"X-Request-ID": bad.encode("latin-1")})
    assert response.headers["x-request-id"] != bad
    assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["x-request-id"])


async def test_each_request_has_its_own_id(anonymous):
    answers = await asyncio.gather(*(anonymous.get("/context") for _ in range(20)))
    assert len({answer.json()["request_id"] for answer in answers}) == 20
    assert all(answer.json()["request_id"] == answer.headers["x-request-id"] for answer in answers)


async def test_a_trace_is_continued_with_a_span_of_ours(anonymous):
    answer = (await anonymous.get("/context", headers={"traceparent": PARENT})).json()["traceparent"]
    version, trace, span, flags = answer.split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        PARENT.upper(),
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT + "-extra",
        PARENT[:-1],
    ],
)
def test_invalid_traceparents(bad):
    assert valid(bad) is None


def test_a_later_traceparent_version_may_have_more_fields():
    assert valid(f"01-{TRACE}-00f067aa0ba902b7-01-what") is not None


def test_new_traces_are_valid():
    assert valid(new_traceparent()) is not None
    assert valid(continued(new_traceparent())) is not None


def test_working_for_restores_the_previous_context():
    with working_for(RequestContext("r", PARENT)) as _:
        assert current_context() == RequestContext("r", PARENT)
        assert RequestContext("r", PARENT).trace_id == TRACE
    assert current_context() != RequestContext("r", PARENT)


def requests_total(registry: CollectorRegistry, method: str, route: str, status: str) -> float | None:
    labels = {"method": method, "route": route, "status": status}
    return registry.get_sample_value("sangathan_http_requests_total", labels)


async def test_metrics_name_templates_and_never_paths(client, registry):
    await client.get("/v1/things/1")
    await client.get("/v1/things/2?unit=UP")
    await client.get("/numbers/+919812345678")
    await client.get("/v1/nothing/+919812345678")
    await client.get("/boom")
    await client.get("/livez")
    await client.request("BREW", "/teapot")
    assert requests_total(registry, "GET", "/v1/things/{id}", "2xx") == 1
    assert requests_total(registry, "GET", "/v1/things/{id}", "4xx") == 1
    assert requests_total(registry, "GET", "unmatched", "4xx") == 1
    assert requests_total(registry, "GET", "/boom", "5xx") == 1
    assert requests_total(registry, "GET", "/livez", "2xx") == 1
    assert requests_total(registry, "OTHER", "/teapot", "4xx") == 1
    assert (
        registry.get_sample_value(
            "sangathan_http_request_seconds_count", {"method": "GET", "route": "/v1/things/{id}"}
        )
        == 2
    )
    assert registry.get_sample_value("sangathan_http_requests_in_flight") == 0
    assert "98123" not in (await client.get("/metrics")).text


async def test_an_included_router_is_named_in_full(make_app, registry):
    inner, outer = (
        APIRouter(prefix="/inner", route_class=Route),
        APIRouter(prefix="/outer", route_class=Route),
    )

    @inner.get("/{id}")
    async def get(id: str) -> str:
        return id

    outer.include_router(inner)
    async with client_of(make_app(routers=[outer])) as client:
        assert (await client.get("/outer/inner/7")).json() == "7"
    assert requests_total(registry, "GET", "/outer/inner/{id}", "2xx") == 1


async def test_load_is_shed_but_health_is_not(make_app, registry):
    gate, entered = asyncio.Event(), asyncio.Event()
    router = APIRouter(route_class=Route)

    @router.get("/slow")
    async def slow() -> None:
        entered.set()
        await gate.wait()

    async with client_of(make_app(routers=[router, odd_router()], max_in_flight=1)) as client:
        first = asyncio.create_task(client.get("/slow"))
        await entered.wait()
        assert registry.get_sample_value("sangathan_http_requests_in_flight") == 1
        response = await client.get("/context")
        assert_problem(response, 429, "overloaded")
        assert response.headers["retry-after"] == "1"
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        gate.set()
        assert (await first).status_code == 200
        assert (await client.get("/context")).status_code == 200
    assert registry.get_sample_value("sangathan_http_requests_shed_total") == 1


async def test_a_caller_gets_429_before_others_are_shed(make_app, registry, token):
    gate = asyncio.Event()
    router = APIRouter(route_class=Route)

    @router.get("/slow", dependencies=[Depends(require("things:read"))])
    async def slow() -> None:
        await gate.wait()

    async with client_of(make_app(routers=[router], max_in_flight_per_caller=2)) as client:

        def call(subject: str, **claims: object) -> asyncio.Task[httpx2.Response]:
            headers = {"Authorization": f"Bearer {token(sub=subject, **claims)}"}
            return asyncio.create_task(client.get("/slow", headers=headers))

        held = [call("one"), call("one"), call("other")]
        await asyncio.sleep(0.05)
        # Another token of the same subject is the same caller.
        refused = await call("one", jti="second")
        assert_problem(refused, 429, "too-many-requests")
        assert refused.headers["retry-after"] == "1"
        held.append(call("other"))
        await asyncio.sleep(0.05)
        gate.set()
        assert [(await each).status_code for each in held] == [200] * 4
        assert (await call("one")).status_code == 200
    assert registry.get_sample_value("sangathan_http_refused_total", {"reason": "caller_requests"}) == 1
    assert registry.get_sample_value("sangathan_http_requests_shed_total") == 0


async def test_readiness_names_the_reasons(make_app):
    async def fine() -> str | None:
        return None

    async def broken() -> str | None:
        return "no primary"

    async def failing() -> str | None:
        raise ConnectionError("mongodb://user:password@host")

    async with client_of(make_app(readiness={"a": fine})) as client:
        assert (await client.get("/readyz")).json() == {"ready": True, "reasons": {}}
    async with client_of(
        make_app(readiness={"a": fine, "b": broken, "c": failing}, registry=CollectorRegistry())
    ) as client:
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"ready": False, "reasons": {"b": "no primary", "c": "ConnectionError"}}
        assert (await client.get("/livez")).json() == {"live": True}


async def test_checks_run_together_have_a_deadline_and_are_remembered():
    calls = 0

    async def slow() -> str | None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(30)
        return None

    readiness = Readiness({"a": slow, "b": slow}, Draining(), check_seconds=0.05)
    async with asyncio.timeout(5):
        first, second = await asyncio.gather(readiness.reasons(), readiness.reasons())
    assert first == second == {"a": "no answer in 0.05 s", "b": "no answer in 0.05 s"}
    assert calls == 2

    forgetful = Readiness({"a": slow}, Draining(), check_seconds=0.01, remember_seconds=0)
    await forgetful.reasons()
    await forgetful.reasons()
    assert calls == 4


async def test_a_draining_process_is_not_ready_still_answers_and_closes_connections(make_app):
    app = make_app()
    async with client_of(app) as client:
        assert (await client.get("/readyz")).status_code == 200
        app.draining.begun = True
        ready, other = await client.get("/readyz"), await client.get("/context")
    assert (ready.status_code, ready.json()["reasons"]) == (503, {"server": "stopping"})
    assert (other.status_code, other.headers["connection"]) == (200, "close")
    assert (await client_of(make_app(registry=CollectorRegistry())).get("/context")).headers.get(
        "connection"
    ) is None


async def test_metrics_in_both_formats(anonymous):
    await anonymous.get("/livez")
    plain = await anonymous.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "sangathan_http_requests_total" in plain.text
    openmetrics = await anonymous.get(
        "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert list(text_string_to_metric_families(openmetrics.text))


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=x", "text/plain; version=.", ";;,=", "*/*; q=x"]
)
async def test_metrics_with_an_odd_accept(anonymous, accept):
    assert (await anonymous.get("/metrics", headers={"Accept": accept})).status_code == 200
