"""Groups from a dump: it keeps names and links, which a rebuild loses, but no link withdrawn since."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local.keys import Keys
from services.groups.app import build
from services.groups.recovery.rebuild_plan import plan
from services.groups.settings import GroupsSettings
from services.shared.database import Collection, Document
from services.shared.identity import Identity
from services.shared.operations.backup import BackupError
from services.shared.operations.rebuild import RebuildError
from tests.fixtures.apps import Running, make_topics, started
from tests.fixtures.rebuilding import Anew, databases, quiet, restored, taken
from tests.integration.groups.test_placement import UNIT, joins, placed, tree
from tests.integration.groups.test_rebuild import content, settings

__all__ = ["settings"]

pytestmark = pytest.mark.heavy

LINK, OTHER_LINK = "https://example.org/join", "https://example.org/join-2"


async def change(groups: Running, ordinal: int, **fields: object) -> None:
    row = await groups.runtime.database["groups"].find_one({"unit": UNIT, "ordinal": ordinal})
    assert row is not None
    headers = {"if-match": f'"{row["version"]}"'}
    answer = await groups.http.patch(f"/v1/groups/{row['_id']}", json=fields, headers=headers)
    assert answer.status_code == 200, answer.text


def variant(settings: GroupsSettings, name: str) -> GroupsSettings:
    names = {"mongo_database": f"{settings.database}_{name}", "consumer_group": name}
    return settings.model_copy(update=names)


async def waits_for_jobs(anew: Anew, jobs: Collection) -> None:
    """A rebuild beside a job that has not ended would lose the job."""
    await jobs.insert_one({"_id": "unfinished", "state": "waiting"})
    assert not await anew.run(resume=True)
    assert "1 jobs that have not ended" in anew.said
    await jobs.delete_one({"_id": "unfinished"})


async def test_a_dump_and_the_log_since(settings: GroupsSettings, keys: Keys, tmp_path: Path) -> None:
    await make_topics(settings)
    anew = Anew(settings, build, plan)
    async with databases(settings) as named:
        before, after = named(settings.database), named(anew.settings.database)
        async with started(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read"]) as groups:
            await tree(groups, UNIT)
            await groups.publish(*joins(12))
            await placed(groups, 12)
            for ordinal in (1, 2):
                await change(groups, ordinal, invite_link=LINK)
            await change(groups, 1, name={"en": "Our own name", "hi": "हमारा नाम"})
            await groups.until(lambda: quiet(groups.runtime))
            await groups.runtime.jobs.add("of another release", {}, Identity("admin", frozenset(), "*"))
            dump = await taken(settings, tmp_path / "dump")
            await change(groups, 2, invite_link=OTHER_LINK)
            await groups.publish(*joins(6))
            await placed(groups, 18)
            await groups.until(lambda: quiet(groups.runtime))
        lived = await content(before, "placements", "since")
        await before.client.drop_database(settings.database)
        await groups.publish(*joins(1))

        await restored(settings, dump, anew)
        assert {job["state"] for job in await content(after, "jobs") if job["kind"] != "link_reset"} == {
            "paused"
        }, "it may be out of date"
        await after["rebuild"].update_one({"_id": "dump"}, {"$set": {"whole": False}})
        with pytest.raises(RebuildError, match="only in part"):
            await anew.run(resume=True)
        await after["rebuild"].update_one({"_id": "dump"}, {"$set": {"whole": True}})
        assert await anew.run(resume=True)
        assert "1 groups need their invite link again" in anew.said
        assert len(await content(after, "placements")) == 19
        held = {p["_id"]: p for p in await content(after, "placements", "since")}
        assert [held[p["_id"]] for p in lived] == lived, "nobody who had a seat has another"
        by_ordinal: dict[int, Document] = {g["ordinal"]: g for g in await content(after, "groups")}
        assert ["sealed_link" in by_ordinal[n] for n in (1, 2)] == [True, False]
        assert by_ordinal[1]["name"]["en"] == "Our own name"
        assert sum(g["taken"] for g in by_ordinal.values()) == 19
        assert all(g["taken"] <= g["capacity"] for g in by_ordinal.values())

        # The same from a volume: a database as old as the dump, whose consumer group has gone on.
        volume = Anew(variant(settings, "volume"), build, plan)
        await restored(settings, dump, volume)
        gone_on = volume.settings.model_copy(update={"consumer_group": anew.settings.group})
        behind = await taken(gone_on, tmp_path / "behind", behind=True)
        again = Anew(variant(settings, "again"), build, plan)
        await restored(settings, behind, again)
        await waits_for_jobs(again, named(variant(settings, "again").database)["jobs"])
        assert await again.run(resume=True)
        held = {p["_id"]: p for p in await content(named(again.settings.database), "placements", "since")}
        assert len(held) == 19
        assert [held[p["_id"]] for p in lived] == lived

        await after.client.drop_database(anew.settings.database)
        with pytest.raises(BackupError, match="has been used"):
            await restored(settings, dump, anew)
