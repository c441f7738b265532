"""Answers to readers: figures of a small tree, subtrees, pages and bad input."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.analytics.core.calendar import day_of
from services.shared.clock import ManualClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import (
    GroupCreated,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupUpdated,
    UnitSucceeded,
    UnitUpserted,
)
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved
from services.shared.contracts.notifications import NotificationQueued, NotificationSent
from services.shared.contracts.vocabulary import LEVELS, Gender, depth_of
from services.shared.ids import new_id
from tests.integration.analytics.conftest import Analytics, answering
from tests.unit.analytics.streams import envelope

MONDAY = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)  # noon in India
BLOCKS = ("BR-SARAN-EKMA", "BR-SARAN-GARKHA", "BR-SARAN-MAKER")


def unit(code: str, women_target: float | None = None) -> Envelope[Any]:
    level = LEVELS[depth_of(code) - 1]
    return envelope(UnitUpserted(unit=code, level=level, women_target=women_target), 1, MONDAY)


def member(code: str, gender: Gender, joined_at: datetime = MONDAY) -> Envelope[Any]:
    joined = MemberJoined(member_id=new_id(), unit=code, gender=gender, language="hi", joined_at=joined_at)
    return envelope(joined, 1, joined_at)


def group(code: str, *, live: bool) -> list[Envelope[Any]]:
    id_ = new_id()
    created: Event = GroupCreated(group_id=id_, unit=code, kind="general", ordinal=1, capacity=100)
    invited: Event = GroupInviteChanged(group_id=id_, unit=code, invite_ready=live)
    return [envelope(created, 1, MONDAY), envelope(invited, 2, MONDAY)]


def seat(of: Envelope[Any]) -> Envelope[Any]:
    place = {
        "member_id": of.subject,
        "group_id": new_id(),
        "unit": of.data.unit,
        "kind": "general",
        "ordinal": 1,
    }
    return envelope(GroupMemberAssigned(**place, invite_ready=True), 1, MONDAY)


def notified(code: str, purpose: str = "welcome") -> list[Envelope[Any]]:
    """Queued and sent."""
    common = {
        "notification_id": new_id(),
        "member_id": new_id(),
        "unit": code,
        "purpose": purpose,
        "template": "t",
    }
    queued: Event = NotificationQueued(**common, language="hi")
    sent: Event = NotificationSent(**common, language="hi", sender="recording", attempts=1)
    return [envelope(queued, 1, MONDAY), envelope(sent, 2, MONDAY)]


async def announce_saran(analytics: Analytics) -> Analytics:
    """Three blocks: EKMA with 2 women, 1 man, 1 undisclosed and a live group; GARKHA with 1 man in a group
    that has no link; MAKER with nobody. Another district with one woman."""
    tree = [unit("BR"), unit("BR-SARAN", 0.5), unit("BR-PATNA"), unit(BLOCKS[0], 0.6), unit(BLOCKS[1], 0.5)]
    people = [
        member(BLOCKS[0], Gender.FEMALE),
        member(BLOCKS[0], Gender.FEMALE, MONDAY + timedelta(days=1)),
        member(BLOCKS[0], Gender.MALE, MONDAY + timedelta(days=8)),
        member(BLOCKS[0], Gender.UNDISCLOSED, MONDAY + timedelta(days=8)),
        member(BLOCKS[1], Gender.MALE),
    ]
    await analytics.feed([*tree, unit(BLOCKS[2]), *people, member("BR-PATNA", Gender.FEMALE)])
    await analytics.feed([*group(BLOCKS[0], live=True), *group(BLOCKS[1], live=False)])
    await analytics.feed([seat(person) for person in people])
    return analytics


@pytest_asyncio.fixture
async def growing(analytics: Analytics) -> Analytics:
    """The tree, for a test that feeds more events."""
    return await announce_saran(analytics)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def saran(mongo_uri: str, keys: Keys) -> AsyncIterator[Analytics]:
    """The tree, shared by the tests that only read."""
    name = f"test_{secrets.token_hex(6)}"
    async with answering(mongo_uri, name, keys, ManualClock(datetime.now(UTC))) as analytics:
        yield await announce_saran(analytics)


async def test_overview_of_a_district(saran: Analytics) -> None:
    assert await saran.ok("/v1/overview", unit="BR-SARAN") == {
        "unit": "BR-SARAN",
        "as_of": "2026-03-10T06:30:00Z",
        "members": {
            "total": 5,
            "without_number": 0,
            "by_gender": {"female": 2, "male": 2, "undisclosed": 1},
            "by_language": {"hi": 5},
            "by_platform": {},
            "women_share": 0.5,
        },
        "groups": {"total": 2, "seats": 200, "taken": 5},
        "notifications": {"by_state": {}},
    }


async def test_overview_of_an_announced_unit_without_anything_is_zeros(saran: Analytics) -> None:
    overview = await saran.ok("/v1/overview", unit=BLOCKS[2])
    assert overview["members"]["total"] == overview["groups"]["seats"] == 0
    assert overview["members"]["women_share"] is None


async def test_overview_of_a_unit_with_members_that_was_not_announced(growing: Analytics) -> None:
    await growing.feed([member("BR-SARAN-NAGRA", Gender.OTHER)])
    assert (await growing.ok("/v1/overview", unit="BR-SARAN-NAGRA"))["members"]["total"] == 1


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/overview", {}),
        ("/v1/timeseries", {"metric": "members.joined"}),
        ("/v1/coverage", {"level": "booth"}),
    ],
)
class TestWhoMaySee:
    async def test_an_unknown_unit_is_404(self, saran: Analytics, path: str, query: dict[str, str]) -> None:
        assert (await saran.get(path, **query, unit="BR-NOWHERE")).status_code == 404

    async def test_a_unit_outside_the_callers_is_404(
        self, saran: Analytics, path: str, query: dict[str, str]
    ) -> None:
        for outside in ("BR", "BR-PATNA"):
            answer = await saran.get(path, by="BR-SARAN", **query, unit=outside)
            assert answer.status_code == 404, outside
            assert answer.headers["content-type"] == "application/problem+json"

    async def test_the_callers_own_unit_and_below_are_seen(
        self, saran: Analytics, path: str, query: dict[str, str]
    ) -> None:
        for inside in ("BR-SARAN", BLOCKS[0]):
            assert (await saran.get(path, by="BR-SARAN", **query, unit=inside)).status_code == 200

    async def test_without_a_unit_the_callers_own_is_meant(
        self, saran: Analytics, path: str, query: dict[str, str]
    ) -> None:
        for own in ("BR-SARAN", "*"):
            assert (await saran.get(path, by=own, **query)).json()["unit"] == own
        assert (await saran.get(path, by=None, **query)).status_code == 404

    async def test_the_scope_is_required(self, saran: Analytics, path: str, query: dict[str, str]) -> None:
        assert (await saran.get(path, scope="members:read", **query, unit="BR")).status_code == 403
        assert (await saran.get(path, scope="analytics:*", **query, unit="BR")).status_code == 200


async def test_everything_is_the_sum_of_all_trees(growing: Analytics) -> None:
    await growing.feed([unit("UP"), member("UP-BALLIA", Gender.MALE)])
    assert (await growing.ok("/v1/overview"))["members"]["total"] == 7


class TestTimeseries:
    async def points(self, analytics: Analytics, **query: str) -> list[int]:
        series = await analytics.ok("/v1/timeseries", **query)
        assert series["total"] == sum(point["value"] for point in series["points"])
        return [point["value"] for point in series["points"]]

    async def test_days_are_filled_with_zeros(self, saran: Analytics) -> None:
        query = {"unit": "BR-SARAN", "metric": "members.joined", "from": "2026-03-01", "to": "2026-03-05"}
        assert await self.points(saran, **query) == [0, 2, 1, 0, 0]

    async def test_weeks(self, saran: Analytics) -> None:
        query = {"unit": "BR-SARAN", "metric": "members.joined", "step": "week"}
        series = await saran.ok("/v1/timeseries", **query, **{"from": "2026-03-03", "to": "2026-03-20"})
        assert series["points"] == [
            {"start": "2026-03-02", "value": 1},
            {"start": "2026-03-09", "value": 2},
            {"start": "2026-03-16", "value": 0},
        ]
        assert (series["from"], series["to"], series["step"]) == ("2026-03-03", "2026-03-20", "week")

    async def test_by_default_thirty_days_that_end_today_in_india(
        self, growing: Analytics, clock: ManualClock
    ) -> None:
        await growing.feed([member("BR-SARAN", Gender.MALE, clock.now())])
        points = await self.points(growing, unit="BR", metric="members.joined")
        assert len(points) == 30
        assert points[-1] == 1
        series = await growing.ok("/v1/timeseries", unit="BR", metric="members.joined")
        assert series["to"] == day_of(clock.now()).isoformat()

    async def test_moves_and_leaving(self, growing: Analytics) -> None:
        joined = member(BLOCKS[2], Gender.FEMALE)
        move = MemberMoved(member_id=joined.subject, from_unit=BLOCKS[2], unit="BR-PATNA")
        left = MemberLeft(member_id=joined.subject, unit="BR-PATNA")
        await growing.feed([joined, envelope(move, 2, MONDAY), envelope(left, 3, MONDAY)])
        day = {"from": "2026-03-02", "to": "2026-03-02"}
        for where, metric, n in (
            ("BR-SARAN", "members.moved_out", 1),
            ("BR-PATNA", "members.moved_in", 1),
            ("BR", "members.moved_in", 0),
            ("BR-PATNA", "members.left", 1),
            ("BR-SARAN", "members.left", 0),
        ):
            assert await self.points(growing, unit=where, metric=metric, **day) == [n], (where, metric)

    async def test_welcomes_are_not_other_notifications(self, growing: Analytics) -> None:
        sent = {
            "member_id": new_id(),
            "unit": "BR",
            "template": "t",
            "language": "hi",
            "sender": "s",
            "attempts": 1,
        }
        for purpose in ("welcome", "broadcast", "broadcast"):
            event = NotificationSent(notification_id=new_id(), purpose=purpose, **sent)
            await growing.feed([envelope(event, 1, MONDAY)])
        query = {"unit": "BR", "metric": "welcomes.sent", "from": "2026-03-02", "to": "2026-03-02"}
        assert await self.points(growing, **query) == [1]
        assert (await growing.ok("/v1/overview", unit="BR"))["notifications"]["by_state"] == {"sent": 3}

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ({"metric": "members.secret"}, "/metric"),
            ({"metric": "$where"}, "/metric"),
            ({}, "/metric"),
            ({"metric": "members.joined", "from": "2026-03-02", "to": "2026-03-01"}, "/from"),
            ({"metric": "members.joined", "from": "2020-01-01", "to": "2026-03-01"}, "/from"),
            ({"metric": "members.joined", "from": "yesterday"}, "/from"),
            ({"metric": "members.joined", "to": "2026-02-30"}, "/to"),
            ({"metric": "members.joined", "step": "month"}, "/step"),
            ({"metric": "members.joined", "unit": "br saran"}, "/unit"),
        ],
    )
    async def test_bad_input_is_422_and_names_the_parameter(
        self, saran: Analytics, query: dict[str, str], pointer: str
    ) -> None:
        answer = await saran.get("/v1/timeseries", **query)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_the_longest_range_is_two_years(self, saran: Analytics) -> None:
        last = date(2026, 3, 1)
        for days, status in ((730, 200), (731, 422)):
            span = {"from": (last - timedelta(days=days)).isoformat(), "to": last.isoformat()}
            answer = await saran.get("/v1/timeseries", metric="members.joined", **span)
            assert answer.status_code == status, days

    async def test_the_first_days_of_the_calendar(self, saran: Analytics) -> None:
        asked = {"metric": "members.joined", "step": "week"}
        points = (await saran.ok("/v1/timeseries", **asked, to="1970-01-01"))["points"]
        assert points[0]["start"] == "1969-12-01"
        assert (await saran.get("/v1/timeseries", **asked, to="1969-12-31")).status_code == 422
        assert len((await saran.ok("/v1/timeseries", **asked, to="9999-12-29"))["points"]) == 5
        for beyond in ("0001-01-03", "9999-12-30", "9999-12-31"):
            assert (await saran.get("/v1/timeseries", **asked, to=beyond)).status_code == 422


class TestCoverage:
    async def test_every_block_is_there_also_the_empty_one(self, saran: Analytics) -> None:
        page = await saran.ok("/v1/coverage", unit="BR-SARAN", level="block")
        ekma, garkha, maker = page["items"]
        assert ekma == {
            "unit": "BR-SARAN-EKMA",
            "has_live_group": True,
            "has_admins": False,
            "groups": 1,
            "live_groups": 1,
            "seats": 100,
            "taken": 4,
            "members": 4,
            "women": 2,
            "women_share": 0.6667,
            "women_target": 0.6,
            "on_target": True,
        }
        assert (garkha["has_live_group"], garkha["groups"], garkha["on_target"]) == (False, 1, False)
        assert (maker["unit"], maker["members"], maker["women_share"], maker["on_target"]) == (
            "BR-SARAN-MAKER",
            0,
            None,
            None,
        )
        assert page["next"] is None

    async def test_summary(self, saran: Analytics) -> None:
        page = await saran.ok("/v1/coverage", unit="BR-SARAN", level="block")
        assert page["summary"] == {
            "units": 3,
            "with_live_group": 1,
            "with_admins": 0,
            "with_target": 3,
            "on_target": 1,
            "groups": 2,
            "live_groups": 1,
            "seats": 200,
            "taken": 5,
            "members": 5,
            "women": 2,
            "women_share": 0.5,
        }

    async def test_a_group_below_is_counted_but_is_not_the_units_own(self, saran: Analytics) -> None:
        page = await saran.ok("/v1/coverage", unit="BR", level="district")
        by_unit = {row["unit"]: row for row in page["items"]}
        assert (by_unit["BR-SARAN"]["live_groups"], by_unit["BR-SARAN"]["has_live_group"]) == (1, False)

    async def test_a_share_that_equals_the_target_reaches_it(self, saran: Analytics) -> None:
        saran_row = (await saran.ok("/v1/coverage", level="district"))["items"][1]
        assert (saran_row["women_share"], saran_row["women_target"], saran_row["on_target"]) == (
            0.5,
            0.5,
            True,
        )

    async def test_a_row_agrees_with_the_overview_of_its_unit(self, saran: Analytics) -> None:
        for row in (await saran.ok("/v1/coverage", level="district"))["items"]:
            overview = await saran.ok("/v1/overview", unit=row["unit"])
            assert row["members"] == overview["members"]["total"]
            assert row["women_share"] == overview["members"]["women_share"]
            assert (row["seats"], row["taken"]) == (overview["groups"]["seats"], overview["groups"]["taken"])

    async def test_pages_hold_every_unit_once_and_the_first_the_summary(self, saran: Analytics) -> None:
        codes: list[str] = []
        summaries: list[bool] = []
        more: dict[str, str] = {}
        while True:
            page = await saran.ok("/v1/coverage", unit="BR-SARAN", level="block", limit="2", **more)
            codes += [row["unit"] for row in page["items"]]
            summaries.append(page["summary"] is not None)
            if page["next"] is None:
                break
            more = {"cursor": page["next"]}
        assert codes == list(BLOCKS)
        assert summaries == [True, False]

    @pytest.mark.parametrize(
        ("own", "level"), [("BR-SARAN", "district"), (BLOCKS[0], "state"), ("BR", "state")]
    )
    async def test_a_level_that_is_not_below_the_unit_is_422(
        self, saran: Analytics, own: str, level: str
    ) -> None:
        answer = await saran.get("/v1/coverage", unit=own, level=level)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/level"

    async def test_an_unknown_level_is_422(self, saran: Analytics) -> None:
        for query in ({"level": "village"}, {}):
            assert (await saran.get("/v1/coverage", **query)).status_code == 422

    async def test_a_cursor_of_another_listing_is_400(self, saran: Analytics) -> None:
        page = await saran.ok("/v1/coverage", unit="BR-SARAN", level="block", limit="1")
        for query in (
            {"unit": "BR", "level": "block", "cursor": page["next"]},
            {"unit": "BR-SARAN", "level": "booth", "cursor": page["next"]},
            {"unit": "BR-SARAN", "level": "block", "cursor": "bm9uc2Vuc2U"},
        ):
            assert (await saran.get("/v1/coverage", **query)).status_code == 400

    async def test_units_of_an_unannounced_code_are_not_listed(self, growing: Analytics) -> None:
        await growing.feed([member("BR-SARAN-NAGRA", Gender.OTHER)])
        page = await growing.ok("/v1/coverage", unit="BR-SARAN", level="block")
        assert [row["unit"] for row in page["items"]] == list(BLOCKS)
        assert page["summary"]["members"] == 6, "they are in the overview of the district, too"


async def test_gauges_stop_at_districts_and_announced_units(growing: Analytics) -> None:
    await growing.feed(
        [member("BR-MADEUP", Gender.MALE), *notified(BLOCKS[0]), *notified("BR-PATNA", "broadcast")]
    )
    await growing.service.features[-1].loops["gauges"].__self__.refresh()  # type: ignore[attr-defined]
    text = (await growing.get("/metrics")).text
    assert 'sangathan_members{gender="female",unit="BR-SARAN"} 2.0' in text
    assert 'sangathan_women_share_ratio{unit="BR-SARAN"} 0.5' in text
    assert 'sangathan_seats_taken{unit="*"} 5.0' in text
    for unit, sent in (("*", 1), ("BR", 1), ("BR-SARAN", 1), ("BR-PATNA", 0)):
        assert f'sangathan_welcomes{{state="sent",unit="{unit}"}} {sent}.0' in text
        assert f'sangathan_welcomes{{state="queued",unit="{unit}"}} 0.0' in text
    assert "EKMA" not in text
    assert "MADEUP" not in text


async def test_a_redrawn_unit_keeps_its_history_and_hands_on_its_figures(analytics: Analytics) -> None:
    """Whichever topic is heard first: nobody moved, and the sums of all that contains both stay as they
    were."""
    old, new = BLOCKS[0], "BR-SARAN-EKMANEW"
    people = [member(old, Gender.FEMALE), member(old, Gender.MALE)]
    made = group(old, live=True)
    seats = [seat(person) for person in people]
    await analytics.feed([unit("BR"), unit("BR-SARAN"), unit(old, 0.5), *people, *made, *seats])
    district = await analytics.ok("/v1/overview", unit="BR-SARAN")
    later = MONDAY + timedelta(days=3)
    group_id = made[0].subject
    moved = [
        envelope(MemberMoved(member_id=each.subject, from_unit=old, unit=new, cause="redrawn"), 2, later)
        for each in people
    ]
    kept = [
        envelope(
            GroupMemberRedrawn(
                member_id=each.subject,
                group_id=taken.data.group_id,
                unit=new,
                member_unit=new,
                kind="general",
                ordinal=1,
            ),
            2,
            later,
        )
        for each, taken in zip(people, seats, strict=True)
    ]
    change = GroupUpdated(group_id=group_id, unit=new, kind="general", ordinal=1, capacity=100)
    successor = UnitSucceeded(unit=old, successors=(new,), redrawing_id=new_id())
    await analytics.feed([moved[0], kept[1]])
    await analytics.feed([envelope(change, 3, later), unit(new, 0.5), envelope(successor, 2, later)])
    await analytics.feed([kept[0], moved[1]])

    after = await analytics.ok("/v1/overview", unit="BR-SARAN")
    assert {key: after[key] for key in ("members", "groups")} == {
        key: district[key] for key in ("members", "groups")
    }
    there = await analytics.ok("/v1/overview", unit=new)
    assert (there["members"]["total"], there["groups"]) == (2, {"total": 1, "seats": 100, "taken": 2})
    gone = await analytics.ok("/v1/overview", unit=old)
    assert (gone["members"]["total"], gone["groups"]) == (0, {"total": 0, "seats": 0, "taken": 0})

    async def days(code: str, metric: str) -> int:
        span = {"from": "2026-03-01", "to": "2026-03-10"}
        total: int = (await analytics.ok("/v1/timeseries", unit=code, metric=metric, **span))["total"]
        return total

    assert await days(old, "members.joined") == 2, "history is of the old code"
    for code, counted in ((old, (0, 0, 0, 2)), (new, (0, 0, 2, 0)), ("BR-SARAN", (0, 0, 0, 0))):
        metrics = ("moved_in", "moved_out", "redrawn_in", "redrawn_out")
        assert tuple([await days(code, f"members.{word}") for word in metrics]) == counted, code
    assert await days("BR-SARAN", "placements.assigned") == 2
    page = await analytics.ok("/v1/coverage", unit="BR-SARAN", level="block")
    assert [item["unit"] for item in page["items"]] == [new]


async def test_a_level_of_an_own_tree_is_covered(analytics: Analytics) -> None:
    ward = UnitUpserted(unit="BR-A-B-C-W", level="ward")
    await analytics.feed([unit("BR"), envelope(ward, 1, MONDAY), member("BR-A-B-C-W", Gender.FEMALE)])
    page = await analytics.ok("/v1/coverage", unit="BR", level="ward")
    assert [(item["unit"], item["members"]) for item in page["items"]] == [("BR-A-B-C-W", 1)]
    assert (page["level"], page["summary"]["members"]) == ("ward", 1)
    unknown = await analytics.get("/v1/coverage", unit="BR", level="street")
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (422, "/level")
