"""Traces of one process: what is recorded, and a collector that is slow, away or full."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import structlog
from fastapi import APIRouter, FastAPI
from prometheus_client.openmetrics.exposition import generate_latest

from services.shared.config.settings import ServiceSettings
from services.shared.http.body import Route
from services.shared.http.context import RequestContext, current_context, working_for
from services.shared.messaging.spans import record_sent
from services.shared.observability import tracing
from services.shared.observability.logs import configure_logs
from services.shared.observability.tracing import (
    SpanKind,
    begin,
    calling,
    current_trace_id,
    spans,
    stop_tracing,
)
from services.shared.runtime import Service, serve
from tests.fixtures.collector import Collector, collecting, traced_to
from tests.unit.http.conftest import authenticator, client_of, clock, jwks_path, key, make_app, registry

__all__ = ["authenticator", "clock", "jwks_path", "key", "make_app", "registry"]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"
NOBODY = "http://127.0.0.1:1"
"""A port where nothing listens."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture
def app(make_app) -> FastAPI:
    router = APIRouter(route_class=Route)

    @router.get("/traces/{who}")
    async def traces(who: str, phone: str = "") -> dict[str, str | None]:
        here = current_context()
        assert here is not None
        return {"current": current_trace_id(), "traceparent": here.traceparent}

    @router.get("/fails/{who}")
    async def fails(who: str) -> None:
        raise RuntimeError(who)

    app: FastAPI = make_app(routers=[router])
    return app


def consumed_per_event() -> Iterator[tuple[str, tracing.Span]]:
    raise AssertionError("with tracing off nothing may be done per event")
    yield


async def test_with_tracing_off_nothing_is_recorded_or_done_per_event(app):
    with spans(consumed_per_event()) as running:
        assert running == {}
    record_sent(consumed_per_event())  # type: ignore[arg-type]
    assert begin("x", SpanKind.CLIENT, SAMPLED, {}) is None
    async with client_of(app, {"traceparent": SAMPLED}) as client:
        answer = (await client.get("/traces/asha")).json()
    assert answer["current"] is None
    assert answer["traceparent"].startswith(f"00-{TRACE}-")


def test_with_tracing_off_the_sdk_is_not_loaded():
    look = "import sys, services.shared.runtime.runtime; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout
    assert "services.shared.observability.tracing" in loaded
    assert "opentelemetry.sdk" not in loaded
    assert "opentelemetry.exporter" not in loaded


def test_without_the_extra_the_service_says_so_and_does_not_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    def build(_: ServiceSettings) -> Service:
        raise AssertionError("the service was built")

    with pytest.raises(SystemExit, match=r"SANGATHAN_OTLP_ENDPOINT.*sangathan\[tracing\]"):
        serve(ServiceSettings(service="things", otlp_endpoint=NOBODY), build)


@pytest.mark.parametrize("wrong", ["collector:4317", "grpc://collector", "ftp://collector"])
def test_an_endpoint_is_an_address_of_http(wrong):
    with pytest.raises(ValueError, match="otlp_endpoint"):
        ServiceSettings(service="things", otlp_endpoint=wrong)


async def test_a_callers_trace_is_continued_and_the_route_is_a_template(app, collector):
    with traced_to(collector.url, ratio=0):
        async with client_of(app, {"traceparent": SAMPLED}) as client:
            answer = (await client.get("/traces/asha?phone=9876543210")).json()
    [span] = collector.spans
    assert (span.trace, span.parent, span.name) == (TRACE, "00f067aa0ba902b7", "GET /traces/{who}")
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/traces/{who}",
        "http.response.status_code": 200,
    }
    assert answer == {"current": TRACE, "traceparent": f"00-{TRACE}-{span.id}-01"}
    assert not any(b"asha" in raw or b"9876543210" in raw for raw in collector.raw)


async def test_the_duration_of_a_request_names_a_trace_that_is_recorded(app, collector, registry):
    def named() -> list[str]:
        text = generate_latest(registry).decode()
        return [line for line in text.splitlines() if "request_seconds_bucket" in line and "trace_id" in line]

    with traced_to(collector.url, ratio=0):
        async with client_of(app, {"traceparent": UNSAMPLED}) as client:
            await client.get("/traces/asha")
        assert named() == []
        async with client_of(app, {"traceparent": SAMPLED}) as client:
            await client.get("/traces/asha")
    [line] = named()
    assert f'# {{trace_id="{TRACE}"}}' in line
    assert 'route="/traces/{who}"' in line


async def test_a_trace_that_the_caller_does_not_record_is_not_recorded(app, collector):
    with traced_to(collector.url, ratio=1):
        async with client_of(app, {"traceparent": UNSAMPLED}) as client:
            answer = (await client.get("/traces/asha")).json()
            health = await client.get("/livez", headers={"traceparent": SAMPLED})
    assert health.status_code == 200
    assert answer["current"] is None
    assert answer["traceparent"].startswith(f"00-{TRACE}-")
    assert answer["traceparent"].endswith("-00")
    assert collector.spans == []


@pytest.mark.parametrize(("ratio", "least", "most"), [(0, 0, 0), (0.5, 100, 200), (1, 300, 300)])
async def test_the_ratio_applies_to_traces_begun_here(app, collector, ratio, least, most):
    with traced_to(collector.url, ratio=ratio):
        async with client_of(app) as client:
            answers = [(await client.get("/traces/asha")).json() for _ in range(300)]
    recorded = [a["current"] for a in answers if a["current"]]
    assert least <= len(recorded) <= most
    assert sorted(span.trace for span in collector.spans) == sorted(recorded)
    assert all(span.parent == "" for span in collector.spans)
    assert {a["traceparent"][-2:] for a in answers if a["current"] is None} <= {"00"}


async def test_a_failure_is_marked_without_its_words(app, collector):
    with traced_to(collector.url):
        async with client_of(app) as client:
            assert (await client.get("/fails/9876543210")).status_code == 500
    [span] = collector.spans
    assert span.failed
    assert span.attributes["error.type"] == "500"
    assert not any(b"9876543210" in raw for raw in collector.raw)


async def test_a_call_is_a_span_of_the_request_it_serves(collector):
    with traced_to(collector.url):
        with calling("POST", "/v1/members/resolve", "members") as nothing:
            assert nothing is None
        with working_for(RequestContext("r", SAMPLED)), calling("POST", "/x", "members") as span:
            assert span is not None
            ours = span.traceparent
        with (
            pytest.raises(ValueError, match="9876543210"),
            working_for(RequestContext("r", SAMPLED)),
            calling("POST", "/y", "members"),
        ):
            raise ValueError("9876543210")
    good, bad = collector.spans
    assert ours == f"00-{TRACE}-{good.id}-01"
    assert (good.parent, good.failed, bad.failed) == ("00f067aa0ba902b7", False, True)
    assert bad.attributes["error.type"] == "ValueError"


@pytest.mark.parametrize("wrong", ["", "1", "nonsense", UNSAMPLED, SAMPLED[:-1], SAMPLED.upper()])
def test_an_invalid_parent_starts_no_span(collector, wrong):
    with traced_to(collector.url):
        assert begin("x", SpanKind.CONSUMER, wrong, {}) is None


def test_logs_carry_the_trace(collector):
    stream = io.StringIO()
    configure_logs(service="things", instance="i", stream=stream)
    with traced_to(collector.url), working_for(RequestContext("r", SAMPLED)):
        structlog.get_logger().info("hello")
    assert json.loads(stream.getvalue().splitlines()[0])["trace_id"] == TRACE


@pytest.mark.parametrize("fault", ["away", "refuses", "hangs"])
async def test_a_collector_that_fails_harms_nobody(app, collector, fault):
    collector.status, collector.delay = (503, 0.0) if fault == "refuses" else (200, 30.0 * (fault == "hangs"))
    tracing.configure_tracing(
        ServiceSettings(
            service="things", otlp_endpoint=NOBODY if fault == "away" else collector.url, trace_ratio=1
        )
    )
    try:
        async with client_of(app) as client:
            for _ in range(20):
                assert (await client.get("/traces/asha")).status_code == 200
            await asyncio.sleep(1.3)  # an export is in progress
            began = time.monotonic()
            assert (await client.get("/traces/asha")).status_code == 200
            assert time.monotonic() - began < 1
    finally:
        began = time.monotonic()
        stop_tracing(1)
    assert time.monotonic() - began < 2
    assert collector.spans == []


def test_the_queue_for_a_slow_collector_is_bounded(collector):
    collector.delay = 1.0
    with traced_to(collector.url):
        began = time.monotonic()
        for _ in range(3 * tracing.QUEUE_SPANS):
            span = begin("x", SpanKind.CONSUMER, SAMPLED, {})
            assert span is not None
            span.end()
        assert time.monotonic() - began < 10
        collector.delay = 0.0
    # Batches in flight when the queue filled, plus a full queue: the rest was dropped, not kept.
    assert 0 < len(collector.spans) <= tracing.QUEUE_SPANS + 4 * tracing.BATCH_SPANS


def test_queued_spans_are_sent_on_shutdown(collector):
    with traced_to(collector.url):
        span = begin("x", SpanKind.CONSUMER, SAMPLED, {})
        assert span is not None
        span.end()
        span.end(error="too late")
    [seen] = collector.spans
    assert not seen.failed
