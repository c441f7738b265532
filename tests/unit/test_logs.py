"""The log: one JSON line per record from any logger, without personal data."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.observability import logs
from services.shared.observability.correlation import RequestContext, working_for
from services.shared.observability.logs import LINES, REDACTED, RepeatFilter, configure_logs, explain, redact

PERSONAL = [
    "+919812345678",
    "+91 98123 45678",
    "98123-45678",
    "09812345678",
    "९८१२३४५६७८",
    "asha.devi@example.org",
    "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "Bearer abcdefghijk",
    "mongodb://root:hunter2@db.example.org:27017/",
]
HARMLESS = [
    "01902345-1234-7123-8123-612345678901",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "2026-07-01T10:20:30.123Z",
    "BR-PAT-B1-1042",
    "127.0.0.1:9092",
    "offset 6123 of members.member-2",
]


@pytest.fixture
def log():
    """Configure onto a buffer; restore the process's logging afterwards."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.raiseExceptions)
    stream = io.StringIO()

    def configured(**options):
        configure_logs(service="members", instance="m-1", stream=stream, **options)
        return stream

    yield configured
    root.handlers[:], root.level, logging.raiseExceptions = before
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_names_service_instance_level_time_and_logger(log):
    stream = log()
    structlog.get_logger("members.api").info("joined", unit="BR-PAT", count=3)
    (line,) = lines(stream)
    assert line["service"] == "members"
    assert line["instance"] == "m-1"
    assert line["level"] == "info"
    assert line["logger"] == "members.api"
    assert line["event"] == "joined"
    assert line["unit"] == "BR-PAT"
    assert line["count"] == 3
    assert line["time"].endswith("Z")


def test_request_and_trace_ids_come_from_the_context(log):
    stream = log()
    with working_for(RequestContext("req-1", f"00-{'a' * 32}-{'b' * 16}-01")):
        structlog.get_logger("x").info("inside")
        logging.getLogger("aiokafka").error("inside too")
    structlog.get_logger("x").info("outside")
    inside, foreign, outside = lines(stream)
    assert inside["request_id"] == foreign["request_id"] == "req-1"
    assert inside["trace_id"] == foreign["trace_id"] == "a" * 32
    assert "request_id" not in outside


def test_the_standard_library_is_routed_and_redacted(log):
    stream = log()
    logging.getLogger("pymongo").error("duplicate for %s", "asha@example.org")
    logging.getLogger("uvicorn.error").info("started on %s", 8000)
    logging.getLogger("uvicorn.access").info("GET /v1/members?q=asha")
    first, second = lines(stream)
    assert first["event"] == f"duplicate for {REDACTED}"
    assert second["event"] == "started on 8000"


def test_level_applies_to_both(log):
    stream = log(level="WARNING")
    structlog.get_logger("x").info("no")
    logging.getLogger("y").info("no")
    structlog.get_logger("x").warning("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


@pytest.mark.parametrize("value", PERSONAL)
def test_personal_values_leave_by_no_door(log, value):
    stream = log()
    logger = structlog.get_logger("x")
    logger.info(
        f"refused {value} today", why=value, deep={"a": [{"b": (value,)}]}, path=Path(f"/tmp/{value}")
    )
    logger.info("as a key", rows={value: 1})
    try:
        try:
            raise LookupError(f"no member {value}")
        except LookupError as cause:
            raise RuntimeError(f"failed for {value}") from cause
    except RuntimeError:
        logger.exception("failed")
        logging.getLogger("aiokafka").exception("failed: %s", value)
    text = stream.getvalue()
    assert value not in text
    assert "hunter2" not in text
    assert len(lines(stream)) == 4


@pytest.mark.parametrize("value", HARMLESS)
def test_ids_and_places_stay_readable(value):
    assert redact(None, "", {"event": f"at {value}", "x": value})["x"] == value


@pytest.mark.parametrize(
    "key", ["name", "phone", "Email", "authorization", "api_token", "body", "member-phone"]
)
def test_denied_keys(key):
    event = {"rows": [{key: {"anything": "Asha"}}], key: "Asha"}
    assert "Asha" not in str(redact(None, "", event))


@pytest.mark.parametrize("key", ["topic_name", "unit", "phonetic", "tokenised"])
def test_keys_that_only_resemble_denied_ones(key):
    assert redact(None, "", {key: "groups"})[key] == "groups"


def test_numbers_that_are_phones():
    assert redact(None, "", {"n": 9812345678, "m": 919812345678, "at": 1790000000000, "ok": True}) == {
        "n": REDACTED,
        "m": REDACTED,
        "at": 1790000000000,
        "ok": True,
    }


def test_objects_show_their_type_only(log):
    class Member:
        def __repr__(self):
            return "Member(name='Asha')"

    stream = log()
    structlog.get_logger("x").info(
        "odd", member=Member(), raw=b"Asha", big={1: 2**80}, error=ValueError("Asha")
    )
    (line,) = lines(stream)
    assert "Asha" not in json.dumps(line)
    assert line["member"].endswith("Member>")


def test_errors_that_quote_data_lose_their_message():
    assert "message" not in explain(KeyError("Asha"))[0]
    assert explain(RuntimeError("broker gone"))[0]["message"] == "broker gone"
    assert "message" not in explain(RuntimeError("broker gone"), messages=False)[0]


def test_an_exception_names_where_it_came_from(log):
    stream = log()
    try:
        raise RuntimeError("broker gone")
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
    (line,) = lines(stream)
    assert line["exception"][0]["type"] == "RuntimeError"
    assert "test_logs.py" in line["exception"][0]["frames"][-1]


def test_console_form_is_redacted_too(log):
    stream = log(fmt="console")
    try:
        raise RuntimeError("no +919812345678")
    except RuntimeError:
        structlog.get_logger("x").exception("failed", phone="x")
    assert "RuntimeError" in stream.getvalue()
    assert "98123" not in stream.getvalue()


def test_configuring_twice_writes_once(log):
    log()
    stream = log()
    structlog.get_logger("x").info("once")
    assert len(lines(stream)) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(PERSONAL),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(PERSONAL), inner),
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=20), JSON, max_size=6))
def test_redaction_never_fails_and_never_lets_through(event):
    shown = str(redact(None, "", event))
    assert not any(value in shown for value in PERSONAL)


@pytest.mark.parametrize("name", ["aiokafka.cluster", "pymongo.topology", "kafka"])
def test_a_library_that_repeats_itself_is_cut_short_and_says_by_how_much(log, monkeypatch, name):
    """A missing topic: 700 lines a second."""
    now = [0.0]
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stream = log()
    for second in range(60):
        now[0] = float(second)
        for n in range(10):
            logging.getLogger(name).error("Topic %s not found in cluster metadata", n)
    logging.getLogger(name).error("something else")
    assert len(lines(stream)) == LINES + 1
    now[0] = 61.0
    logging.getLogger(name).error("Topic %s not found in cluster metadata", "x")
    said = lines(stream)[-1]["event"]
    assert said == "Topic x not found in cluster metadata (597 like it were suppressed)"


def test_our_own_lines_are_all_written(log):
    stream = log()
    for _ in range(20):
        structlog.get_logger("services.shared.loops").warning("loop.retrying")
        logging.getLogger("services").warning("kept")
    assert len(lines(stream)) == 40


def test_a_caller_cannot_fill_the_log(log, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stream = log()
    ours = structlog.get_logger("sangathan.http")
    for n in range(500):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        ours.error("request failed", route="/v1/members", error="OverflowError", raised=[n])
        ours.error("request failed", route="/v1/groups", error="OverflowError", raised=[n])
        structlog.get_logger("services").warning("request.unavailable", error="AutoReconnect")
    assert len(lines(stream)) == 4 * LINES
    now[0] = 61.0
    ours.error("request failed", route="/v1/groups", error="OverflowError")
    last = lines(stream)[-1]
    assert last["event"] == "request failed (497 like it were suppressed)"
    assert (last["route"], last["service"]) == ("/v1/groups", "members")


def test_templates_that_hold_values_do_not_fill_the_memory(log):
    log()
    (repeats,) = (f for f in logging.getLogger().handlers[0].filters if isinstance(f, RepeatFilter))
    for n in range(5_000):
        logging.getLogger("aiokafka").error(f"Unable connect to node with id {n}")
    assert len(repeats._windows) <= 1000
