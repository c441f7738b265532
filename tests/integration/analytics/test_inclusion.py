"""The women connected: what readers are told, on which day, by which index, and what an erasure leaves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.analytics.core.calendar import day_of
from services.analytics.core.places import COLLECTION, POINTER, HeldError
from services.analytics.projections.store import PointerStore
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupAdminsChanged,
    GroupCreated,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberObserved,
    UnitUpserted,
)
from services.shared.contracts.members import MemberErasureRequested, MemberJoined
from services.shared.contracts.notifications import NotificationSent
from services.shared.contracts.vocabulary import LEVELS, Gender
from services.shared.ids import new_id
from services.shared.messaging import UnitOfWork
from tests.integration.analytics.conftest import Analytics
from tests.unit.analytics.streams import envelope

TREE = ("BR", "BR-SARAN", "BR-SARAN-EKMA", "BR-SARAN-EKMA-1", "BR-SARAN-EKMA-2")
ONE, TWO = TREE[3:]
GROUP = new_id()
today = {"at": SystemClock().now()}


@pytest.fixture(autouse=True)
def begun() -> None:
    today["at"] = SystemClock().now()


def ago(days: int) -> Any:
    """As of the test's beginning: whole runs may go past midnight."""
    return today["at"] - timedelta(days=days)


def on(days: int) -> str:
    """The day in India so many days ago."""
    return day_of(ago(days)).isoformat()


class Woman:
    """One who joined a number of days ago; each step of hers is an event."""

    def __init__(
        self, unit: str, days: int, gender: Gender = Gender.FEMALE, inviter: str | None = None
    ) -> None:
        self.id, self._unit, self._placed = new_id(), unit, 0
        about: dict[str, Any] = {"gender": gender, "language": "hi", "joined_at": ago(days)}
        joined = MemberJoined(member_id=self.id, unit=unit, inviter_id=inviter, **about)
        self.events: list[Envelope[Any]] = [envelope(joined, 1, ago(days))]

    def seat(self, days: int) -> Woman:
        seat = GroupMemberAssigned(**self._seat(), ordinal=1, invite_ready=True)
        return self._then(seat, self._next(), days)

    def invited(self, days: int) -> Woman:
        about: dict[str, Any] = {"notification_id": new_id(), "member_id": self.id, "unit": self._unit}
        done: dict[str, Any] = {"template": "t", "language": "hi", "sender": "recording", "attempts": 1}
        return self._then(NotificationSent(**about, **done, purpose="welcome"), 2, days)

    def seen(self, days: int) -> Woman:
        there = GroupMemberObserved(**self._seat(), state="joined", observed_at=ago(days))
        return self._then(there, self._next(), days)

    def _seat(self) -> dict[str, Any]:
        return {"member_id": self.id, "group_id": GROUP, "unit": self._unit, "kind": "general"}

    def _next(self) -> int:
        self._placed += 1
        return self._placed

    def _then(self, event: Any, sequence: int, days: int) -> Woman:
        self.events.append(envelope(event, sequence, ago(days)))
        return self


async def populated(analytics: Analytics) -> list[Woman]:
    """Booth 1 has a group with two admins, a woman at each stage of the funnel, a man and two who do not say.
    Booth 2 has one woman and no group. The state has a target."""
    tree = [
        envelope(
            UnitUpserted(unit=u, level=LEVELS[u.count("-")], women_target=0.9 if u == "BR" else None),
            1,
            ago(60),
        )
        for u in TREE
    ]
    about: dict[str, Any] = {"group_id": GROUP, "unit": ONE}
    group = [
        envelope(GroupCreated(**about, kind="general", ordinal=1, capacity=9), 1, ago(50)),
        envelope(GroupInviteChanged(**about, invite_ready=True), 2, ago(40)),
        envelope(GroupAdminsChanged(**about, kind="general", ordinal=1, admins=2), 3, ago(10)),
    ]
    first = Woman(ONE, 50).seat(30).invited(20).seen(5)
    people = [
        first,
        Woman(ONE, 50).seat(30).invited(20),
        Woman(ONE, 50).seat(30),
        Woman(ONE, 50, inviter=first.id),
        Woman(TWO, 8, inviter=first.id),
        Woman(ONE, 45, Gender.MALE),
        *(Woman(ONE, 45, Gender.UNDISCLOSED) for _ in range(2)),
    ]
    await analytics.feed([*tree, *group])
    await analytics.feed([event for person in people for event in person.events])
    return people


async def test_the_funnel_of_any_day(analytics: Analytics) -> None:
    await populated(analytics)
    now = await analytics.ok("/v1/inclusion", unit="BR")
    assert now["funnel"] == {
        "registered": 5,
        "assigned": 3,
        "invited": 2,
        "joined": 1,
        "active": 1,
        "asked": 0,
    }
    assert (now["members"], now["women"], now["women_share"]) == (8, 5, 0.8333), "nobody's word is guessed"
    assert (now["women_target"], now["on_target"]) == (0.9, False), "inherited from the state"
    assert now["invited_by"] == {"female": 2, "male": 0, "other": 0, "undisclosed": 0}
    then = await analytics.ok("/v1/inclusion", unit="BR", on=on(25))
    assert (then["funnel"]["assigned"], then["funnel"]["invited"]) == (3, 0)
    assert (then["funnel"]["registered"], then["funnel"]["active"]) == (4, 1), "active since 50 days ago"
    idle = await analytics.ok("/v1/inclusion", unit="BR", on=on(15))
    assert idle["funnel"]["active"] == 0, "thirty days later no more, and again with the next who joined"
    series = await analytics.ok(
        "/v1/inclusion/series", unit="BR", step="day", **{"from": on(50), "to": on(0)}
    )
    assert len(series["points"]) == 51
    by_day = {point["start"]: point["funnel"] for point in series["points"]}
    assert (by_day[on(0)], by_day[on(25)]) == (now["funnel"], then["funnel"])
    assert (await analytics.get("/v1/inclusion", unit="BR", on=on(-1))).status_code == 422
    assert (await analytics.get("/v1/inclusion", unit="BR-PATNA")).status_code == 404
    assert (await analytics.get("/v1/inclusion", by="BR-SARAN", unit="BR")).status_code == 404


async def test_coverage_of_any_day_and_the_target_that_is_met(analytics: Analytics) -> None:
    await populated(analytics)

    async def booths(days: int) -> tuple[Any, Any]:
        page = await analytics.ok("/v1/coverage", unit="BR", level="booth", on=on(days))
        return page["items"][0], page["summary"]

    one, summary = await booths(0)
    assert (one["has_live_group"], one["has_admins"], one["taken"], one["seats"]) == (True, True, 3, 9)
    counts = ("units", "with_live_group", "with_admins", "with_target", "on_target")
    assert [summary[name] for name in counts] == [2, 1, 1, 2, 1], "booth 2 has a woman and nobody else"
    one, summary = await booths(20)
    assert (one["has_live_group"], one["has_admins"]) == (True, False)
    assert [summary[name] for name in counts] == [2, 1, 0, 2, 0]
    _, summary = await booths(45)
    assert [summary[name] for name in counts] == [2, 0, 0, 2, 0]
    lower = envelope(UnitUpserted(unit="BR", level="state", women_target=0.8), 2, ago(15))
    await analytics.feed([lower])
    _, summary = await booths(0)
    assert summary["on_target"] == 2, "a lower target of the state is met by booth 1, too"
    assert (await booths(20))[1]["on_target"] == 0, "but not before it was lowered"


async def test_the_next_units_say_why_in_both_languages(analytics: Analytics) -> None:
    await populated(analytics)
    items = (await analytics.ok("/v1/inclusion/next", unit="BR"))["items"]
    first = items[0]
    assert first["unit"] == ONE
    gains = [item["gain"] for item in items]
    assert gains == sorted(gains, reverse=True)
    assert {item["unit"]: item["reason"] for item in items} == {
        "BR": "first",
        "BR-SARAN": "first",
        "BR-SARAN-EKMA": "first",
        ONE: "register",
        TWO: "open_group",
    }
    assert first["words"]["en"].startswith(f"{first['gain']} more women")
    assert "महिलाएँ" in first["words"]["hi"]
    assert [item["unit"] for item in (await analytics.ok("/v1/inclusion/next", unit=TWO))["items"]] == [TWO]
    assert len((await analytics.ok("/v1/inclusion/next", limit="2"))["items"]) == 2
    assert (await analytics.get("/v1/inclusion/next", limit="101")).status_code == 422


async def test_an_erased_woman_is_in_the_figures_of_no_day(analytics: Analytics) -> None:
    people = await populated(analytics)
    gone = people[0]
    held = await analytics.get(f"/v1/members/{gone.id}/holdings", scope="holdings:read")
    assert held.json()["connection"]["credits"] == {on(50): 1, on(8): 1}
    asked = MemberErasureRequested(member_id=gone.id, unit=ONE, erasure_id=new_id())
    await analytics.feed([envelope(asked, 2)])
    await analytics.feed(gone.events)
    for day in (on(0), on(25)):
        funnel = (await analytics.ok("/v1/inclusion", unit="BR", on=day))["funnel"]
        assert (funnel["joined"], funnel["active"]) == (0, 0)
    assert (await analytics.ok("/v1/inclusion", unit="BR"))["invited_by"]["female"] == 0
    record = await analytics.runtime.database["coverage.0.facts"].find_one({"_id": gone.id})
    assert record == {"_id": gone.id, "erased": True}


async def test_every_read_is_by_an_index(analytics: Analytics) -> None:
    await populated(analytics)
    database = analytics.runtime.database
    await database.command("profile", 2)
    for unit in ("BR", ONE):
        await analytics.ok("/v1/overview", unit=unit)
        await analytics.ok("/v1/timeseries", unit=unit, metric="members.joined")
        await analytics.ok("/v1/inclusion", unit=unit, on=on(9))
        await analytics.ok("/v1/inclusion/series", unit=unit)
        await analytics.ok("/v1/inclusion/next", unit=unit)
    await analytics.ok("/v1/coverage", unit="BR", level="booth", on=on(9))
    await analytics.ok("/v1/inclusion/next")
    await database.command("profile", 0)
    asked = {"op": {"$in": ["query", "command"]}, "planSummary": {"$exists": True}}
    plans = [
        (row["ns"].partition(".")[2], row["planSummary"])
        async for row in database["system.profile"].find(asked)
    ]
    assert len({name for name, _ in plans}) >= 6
    assert [plan for plan in plans if "COLLSCAN" in plan[1]] == []


async def test_consumers_wait_for_a_swap_and_for_no_longer(analytics: Analytics) -> None:
    """A transaction that began before a swap never takes what it saw for what is."""
    runtime, store = analytics.runtime, PointerStore(analytics.runtime.database)
    pointers = analytics.pointers
    await runtime.outbox.transact(lambda work: store.hold("a-build", work.session))

    async def meets_the_swap(work: UnitOfWork) -> None:
        await runtime.database[COLLECTION].find_one({"_id": POINTER}, session=work.session)
        await runtime.outbox.transact(lambda other: store.swap("a-build", [], ago(0), other.session))
        with pytest.raises(HeldError):
            await pointers.of(work)

    await runtime.outbox.transact(meets_the_swap)
    assert not (await pointers.read()).held

    await runtime.outbox.transact(lambda work: store.hold("dead", work.session))
    over = {"hold.until": ago(0) - timedelta(seconds=60)}
    await runtime.database[COLLECTION].update_one({"_id": POINTER}, {"$set": over})

    async def meets_the_dead(work: UnitOfWork) -> None:
        with pytest.raises(HeldError):
            await pointers.of(work)

    await runtime.outbox.transact(meets_the_dead)
    assert not (await pointers.read()).held, "it was taken away"
    swapped = await runtime.outbox.transact(lambda work: store.swap("dead", [], ago(0), work.session))
    assert not swapped, "and cannot swap any more"
