"""Members in mistyped units: listed for whoever may see the unit, and counted with the age of the oldest."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.shared.ids import new_id
from tests.fixtures.apps import Running
from tests.integration.groups.test_placement import joins, placed, tree

PATH = "/v1/placements"


async def listed(
    groups: Running, headers: dict[str, str] | None = None, **params: str
) -> list[tuple[str, str]]:
    """(unit, member id) of all pages, two at a time."""
    rows: list[tuple[str, str]] = []
    cursor: str | None = None
    while True:
        query = {"state": "waiting_unit", "limit": "2", **params} | ({"cursor": cursor} if cursor else {})
        answer = await groups.http.get(PATH, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        for item in answer.json()["items"]:
            assert (item["state"], item.keys()) == ("waiting_unit", {"member_id", "unit", "state", "since"})
            rows.append((item["unit"], item["member_id"]))
        cursor = answer.json()["next"]
        if cursor is None:
            return rows


async def test_who_waits_is_listed_by_unit_and_no_longer_once_the_unit_is_there(groups: Running) -> None:
    await tree(groups, "BR-SARAN")
    mistyped, elsewhere = joins(3, "BR-SARAN-MANJI"), joins(2, "BR-GYA")
    await groups.publish(*joins(1), *mistyped, *elsewhere)
    await placed(groups, 5, "waiting_unit")
    expected = sorted((m.unit, m.member_id) for m in [*mistyped, *elsewhere])
    assert await listed(groups) == expected
    assert await listed(groups, unit="BR-SARAN") == [each for each in expected if each[0] == "BR-SARAN-MANJI"]
    saran = groups.auth("groups:read", "BR-SARAN")
    assert await listed(groups, saran) == [each for each in expected if each[0] == "BR-SARAN-MANJI"]
    outside = await groups.http.get(PATH, params={"state": "waiting_unit", "unit": "BR-GYA"}, headers=saran)
    assert outside.status_code == 404

    await tree(groups, "BR-GYA")
    await placed(groups, 3, "waiting_unit")
    assert {unit for unit, _ in await listed(groups)} == {"BR-SARAN-MANJI"}


@pytest.mark.parametrize(
    ("params", "status"),
    [({}, 422), ({"state": "assigned"}, 422), ({"state": "waiting_unit", "unit": "br saran"}, 422)],
)
async def test_what_cannot_be_listed_is_refused(groups: Running, params: dict[str, str], status: int) -> None:
    assert (await groups.http.get(PATH, params=params)).status_code == status


async def test_only_readers_of_groups_may_list_them(groups: Running) -> None:
    for scopes, unit, status in (("members:read", "*", 403), ("groups:read", None, 404)):
        headers = groups.auth(scopes, unit)
        answer = await groups.http.get(PATH, params={"state": "waiting_unit"}, headers=headers)
        assert answer.status_code == status


async def test_how_many_wait_and_for_how_long_are_gauges(groups: Running) -> None:
    async def shows(count: float, age: float) -> bool:
        value = groups.runtime.registry.get_sample_value
        oldest = value("sangathan_members_waiting_for_unit_oldest_age_seconds") or 0.0
        return value("sangathan_members_waiting_for_unit") == count and age <= oldest < age + 60

    await groups.publish(*joins(2, "BR-NOWHERE"))
    await groups.until(lambda: shows(2, 0))
    placements = groups.runtime.database["placements"]
    older = groups.runtime.clock.now() - timedelta(hours=2)
    await placements.update_one({}, {"$set": {"since": older}})
    await groups.until(lambda: shows(2, 2 * 3600))
    await placements.update_many({}, {"$set": {"state": "left"}})
    await groups.until(lambda: shows(0, 0))


async def test_the_list_is_read_from_an_index_in_order(groups: Running) -> None:
    query = {
        "state": "waiting_unit",
        "unit": {"$gte": "BR-SARAN", "$lt": "BR-SARAN."},
        "_id": {"$gt": new_id()},
    }
    found = groups.runtime.database["placements"].find(query).sort([("unit", 1), ("_id", 1)]).limit(51)
    plan = str((await found.explain())["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in plan
    assert "SORT" not in plan.replace("SORT_MERGE", "")


async def test_one_that_cannot_be_placed_holds_no_other(groups: Running) -> None:
    """An earlier release took any text for an id; no event of this one can carry it."""
    waiting = joins(5, "BR-GYA")
    await groups.publish(*waiting)
    await placed(groups, 5, "waiting_unit")
    placements = groups.runtime.database["placements"]
    row = await placements.find_one({})
    assert row is not None
    for id_ in ("x1", "Sunita", "0" * 400):
        await placements.insert_one({**row, "_id": id_})
    await tree(groups, "BR-GYA")
    await placed(groups, 5)
    assert {member for _, member in await listed(groups)} == {"x1", "Sunita", "0" * 400}
