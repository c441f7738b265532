"""The policies of sending: hours across midnight, caps, and how they are stored."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from services.notifications.core.policies.domain import (
    Budget,
    FrequencyCap,
    Policies,
    QuietHours,
    Rate,
    SilenceWindow,
)

MINUTES = st.times().map(lambda each: each.replace(second=0, microsecond=0))
MOMENTS = st.integers(0, 3 * 366 * 1440).map(
    lambda n: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=n)
)
ZONES = st.sampled_from([ZoneInfo(name) for name in ("Asia/Kolkata", "Europe/Berlin", "America/New_York")])


@given(MINUTES, MINUTES, MOMENTS, ZONES)
def test_quiet_hours_end_where_they_say(begins: time, ends: time, at: datetime, zone: ZoneInfo) -> None:
    hours = QuietHours("some", begins, ends, ("broadcast",))
    end = hours.until(at, zone)
    local = at.astimezone(zone)
    naive = local.time()
    inside = begins <= naive < ends if begins < ends else not (ends <= naive < begins)
    changed = local.utcoffset() != (local + timedelta(hours=25)).utcoffset() or (
        local.utcoffset() != (local - timedelta(hours=25)).utcoffset()
    )
    if changed:  # the clocks change within a day: an hour is there twice, or not at all
        return
    assert (end is not None) == inside
    if end is not None:
        assert at < end <= at + timedelta(hours=24)
        assert end.astimezone(zone).time() == ends
        if begins != ends:
            assert hours.until(end, zone) is None


@given(
    st.lists(st.integers(0, 2000), max_size=30), st.integers(1, 5), st.integers(1, 20), st.integers(0, 2000)
)
def test_a_cap_is_never_exceeded_by_whoever_waits(
    hours: list[int], messages: int, days: int, moment: int
) -> None:
    cap = FrequencyCap(("broadcast",), messages, float(days))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    sent = [("broadcast", start + timedelta(hours=each)) for each in hours if each <= moment]
    at = start + timedelta(hours=moment)
    until = cap.until(sent, at)
    goes = until or at

    def recent(moment: datetime) -> int:
        return sum(moment - timedelta(days=days) < when <= moment for _, when in sent)

    assert recent(goes) < messages
    assert until is None or recent(until - timedelta(milliseconds=1)) >= messages


def test_the_document_is_read_as_it_was_written() -> None:
    policies = Policies(
        version=7,
        quiet_hours=(QuietHours("night", time(21, 30), time(8), ("broadcast",), ("sms",)),),
        silence_windows=(SilenceWindow("p1", ("BR-SRN",), datetime(2026, 11, 6, 12, 30, tzinfo=UTC), 48.0),),
        budgets=(Budget("whatsapp", 250),),
        rates=(Rate("sms", 3.0),),
    )
    stored = TypeAdapter(Policies)
    assert stored.validate_python(stored.dump_python(policies, mode="json")) == policies
