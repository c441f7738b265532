"""The projections on a real MongoDB: any delivery of a stream gives the figures of a naive recount."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import UnitUpserted
from services.shared.contracts.members import (
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberSnapshot,
    MemberUnmerged,
)
from services.shared.contracts.vocabulary import Gender
from services.shared.database import Document
from services.shared.ids import new_id
from services.shared.messaging import encode
from tests.integration.analytics.conftest import Analytics
from tests.unit.analytics.streams import BEGIN, envelope, recount, streams, units

ROOTS = itertools.count()


def join(unit: str, gender: Gender = Gender.FEMALE) -> Envelope[Any]:
    member = MemberJoined(member_id=new_id(), unit=unit, gender=gender, language="hi", joined_at=BEGIN)
    return envelope(member, 1)


async def figures(analytics: Analytics, unit: str) -> dict[str, Any]:
    overview = await analytics.ok("/v1/overview", unit=unit)
    return {key: overview[key] for key in ("members", "groups", "notifications")}


async def test_any_delivery_gives_the_recount(analytics: Analytics) -> None:
    """Hypothesis drives a sync function, so the examples are drawn first and fed here."""
    drawn: list[tuple[list[str], Any]] = []

    @given(st.data())
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def draw(data: st.DataObject) -> None:
        tree = units(f"R{next(ROOTS)}")
        drawn.append((tree, data.draw(streams(tree))))

    draw()
    assert sum(len(stream.facts) for _, stream in drawn) > 50
    for tree, stream in drawn:
        announced = [envelope(UnitUpserted(unit=u, level="state"), 1) for u in tree]
        await analytics.feed(announced)
        for batch in stream.batches:
            await analytics.feed(batch)
        for unit in tree:
            assert await figures(analytics, unit) == recount(stream.facts, unit)


async def test_a_batch_takes_the_same_queries_whatever_its_size(analytics: Analytics) -> None:
    async def commands(size: int) -> int:
        """The fewest of some tries: services of other tests use the same MongoDB."""
        counts = []
        for _ in range(5):
            events = [join(f"BR-A-X{n}") for n in range(size)]
            before = await opcounters(analytics)
            await analytics.feed(events)
            counts.append(await opcounters(analytics) - before)
        return min(counts)

    await analytics.feed([join(f"BR-A-X{n}") for n in range(200)])
    assert await commands(200) == await commands(1)


async def opcounters(analytics: Analytics) -> int:
    """Commands served so far: find, insert, update (a bulk of one kind is one) and getMore."""
    status: Document = await analytics.runtime.client.admin.command("serverStatus")
    names = ("find", "insert", "update", "getMore", "aggregate")
    return sum(status["metrics"]["commands"][name]["total"] for name in names)


async def test_counters_of_two_processes_add_up(analytics: Analytics) -> None:
    """Each process has its slot; a reader sums them."""
    for slot in (3, 11):
        analytics.store._slot = slot
        await analytics.feed([join("BR-A"), join("BR-B")])
    for collection, rows in (("counters", "BR#"), ("days", f"BR#{BEGIN:%Y-%m-%d}#")):
        found = await analytics.runtime.database[collection].distinct("_id", {"unit": "BR"})
        assert sorted(found) == [f"{rows}11", f"{rows}3"]
    assert (await figures(analytics, "BR"))["members"]["total"] == 4


async def test_events_for_an_unknown_member_wait_for_the_member(analytics: Analytics) -> None:
    joined = join("BR-A")
    moved = MemberMoved(member_id=joined.subject, from_unit="BR-A", unit="BR-B")
    await analytics.feed([envelope(UnitUpserted(unit="BR-B", level="district"), 1), envelope(moved, 2)])
    assert (await figures(analytics, "BR-B"))["members"]["total"] == 0
    await analytics.feed([joined])
    assert (await figures(analytics, "BR-B"))["members"]["total"] == 1
    assert (await figures(analytics, "BR"))["members"]["total"] == 1


async def test_a_handler_that_fails_half_way_changes_nothing(analytics: Analytics) -> None:
    good, broken = join("BR-A"), join("BR-A")

    async def apply(work: Any) -> None:
        handlers = analytics.applier._handlers
        await handlers[MemberJoined]([good, broken], work)
        raise RuntimeError("the process dies before it commits")

    with pytest.raises(RuntimeError):
        await analytics.runtime.outbox.transact(apply)
    assert not await analytics.store.knows("BR-A")
    await analytics.feed([good, broken])
    assert (await figures(analytics, "BR-A"))["members"]["total"] == 2


async def test_as_of_is_the_newest_event_anywhere_and_no_forged_one(analytics: Analytics) -> None:
    first = join("BR-A")
    later = Envelope(**{**_fields(join("UP-Z")), "time": BEGIN + timedelta(days=1)})
    forged = Envelope(**{**_fields(join("UP-Z")), "time": BEGIN.replace(year=9999)})
    await analytics.feed([first, later])
    await analytics.applier.apply([analytics._record(encode(forged))])
    assert (await analytics.ok("/v1/overview", unit="BR-A"))["as_of"] == "2026-11-02T12:00:00Z"


async def test_a_member_who_left_is_counted_out_once(analytics: Analytics) -> None:
    joined = join("BR-A")
    left = MemberLeft(member_id=joined.subject, unit="BR-A")
    await analytics.feed([joined, envelope(left, 2)])
    await analytics.feed([envelope(left, 2)])
    assert (await figures(analytics, "BR"))["members"] == {
        "total": 0,
        "without_number": 0,
        "by_gender": {},
        "by_language": {},
        "by_platform": {},
        "women_share": None,
    }


async def test_who_was_merged_is_counted_once_and_again_when_parted(analytics: Analytics) -> None:
    """Late and repeated events, and snapshots, change nothing; who joined stays history."""
    survivor, other = join("BR-A"), join("BR-A")
    names = ("member_id", "unit", "gender", "language", "joined_at")
    state = {name: getattr(other.data, name) for name in names}
    merged = envelope(MemberMerged(**state, into=survivor.subject), 3)
    late = envelope(MemberMoved(member_id=other.subject, from_unit="BR-A", unit="BR-B"), 2)
    told = envelope(MemberSnapshot(**state, status="left", merged_into=survivor.subject), 3)
    await analytics.feed([survivor, other])
    for event in (merged, late, merged, told):
        await analytics.feed([event])
        assert (await figures(analytics, "BR"))["members"]["total"] == 1
    await analytics.feed([envelope(MemberUnmerged(**state, into=survivor.subject), 4)])
    assert (await figures(analytics, "BR-A"))["members"]["total"] == 2
    flows = {}
    for metric in ("joined", "merged", "unmerged", "left"):
        day = {"unit": "BR-A", "metric": f"members.{metric}", "from": "2026-11-01", "to": "2026-11-02"}
        points = (await analytics.ok("/v1/timeseries", **day))["points"]
        flows[metric] = sum(point["value"] for point in points)
    assert flows == {"joined": 2, "merged": 1, "unmerged": 1, "left": 0}


def _fields(event: Envelope[Any]) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Envelope.__dataclass_fields__}
