"""Analytics answers an erasure: the member is not counted, and no attribute is kept, whatever comes late."""

from __future__ import annotations

from typing import Any

from services.shared.contracts.analytics import AnalyticsErasureAcknowledged
from services.shared.contracts.members import MemberErasureRequested, MemberJoined, MemberUpdated
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from services.shared.messaging import Partition, Record, decode
from services.shared.messaging.publishing.outbox import message_of
from tests.integration.analytics.conftest import Analytics
from tests.unit.analytics.streams import BEGIN, envelope

UNIT = "BR-SARAN"
ABOUT: dict[str, Any] = {"unit": UNIT, "gender": Gender.FEMALE, "language": "hi", "platforms": ("telegram",)}


async def answers(analytics: Analytics) -> list[tuple[int, dict[str, int]]]:
    rows = await analytics.runtime.outbox.rows.find({"topic": "sangathan.analytics"}).to_list(None)
    found = []
    for row in rows:
        message = message_of(row)
        record = Record(Partition(message.topic, 0), 0, message.key, message.value, message.headers, 0)
        event = decode(record)
        assert isinstance(event.data, AnalyticsErasureAcknowledged)
        found.append((event.sequence, dict(event.data.destroyed)))
    return sorted(found, key=str)


async def test_nothing_particular_is_kept_and_one_leaving_is_counted(analytics: Analytics) -> None:
    member_id, late_id = new_id(), new_id()
    joined = MemberJoined(member_id=member_id, joined_at=BEGIN, **ABOUT)
    asked = MemberErasureRequested(member_id=member_id, unit=UNIT, erasure_id=new_id())
    late = MemberErasureRequested(member_id=late_id, unit=UNIT, erasure_id=new_id(), status="left")
    await analytics.feed([envelope(joined, 1)])
    members = (await analytics.ok("/v1/overview", unit=UNIT))["members"]
    assert (members["total"], members["by_gender"]["female"]) == (1, 1)
    await analytics.feed([envelope(asked, 3), envelope(late, 3)])
    await analytics.feed([envelope(asked.model_copy(update={"attempt": 2}), 4)])
    updated = MemberUpdated(member_id=member_id, **ABOUT)
    await analytics.feed(
        [envelope(updated, 2), envelope(MemberJoined(member_id=late_id, joined_at=BEGIN, **ABOUT), 1)]
    )

    members = (await analytics.ok("/v1/overview", unit=UNIT))["members"]
    assert members["total"] == 0
    assert not any(members["by_gender"].values())
    assert not any(members["by_platform"].values())
    rows = {row["_id"]: row async for row in analytics.runtime.database["members"].find({})}
    for id_ in (member_id, late_id):
        assert (rows[id_]["gender"], rows[id_]["language"], rows[id_]["platforms"]) == (None, None, [])
    left = analytics.runtime.database["days"].find({"unit": UNIT, "values.members.left": {"$gt": 0}})
    assert [row["values"]["members"]["left"] async for row in left] == [1]
    nothing = {"facts": 0, "dead_letters": 0}
    assert await answers(analytics) == [(1, nothing), (1, {**nothing, "facts": 1}), (2, nothing)]
