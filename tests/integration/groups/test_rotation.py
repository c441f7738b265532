"""The keys of invite links are rotated without a change that anyone sees."""

from __future__ import annotations

import secrets
from base64 import b64encode

import pytest
from pymongo.errors import EncryptionError

from infra.local.keys import Keys
from services.groups.__main__ import SEALED
from services.groups.app import build
from services.groups.settings import GroupsSettings
from services.shared.contracts.groups import TOPIC
from services.shared.encryption import Vault
from services.shared.operations import rotation
from tests.fixtures.apps import GROUPS_KEYS, Running, lent_settings, make_topics, started
from tests.fixtures.databases import release, shape_of
from tests.integration.groups.test_placement import joins, placed, tree

BOOTHS = [f"BR-SARAN-B{n}" for n in range(4)]
SCOPES = ["groups:*", "invites:read"]


async def links(groups: Running) -> dict[str, tuple[str, str]]:
    """Version and link of every group, by unit."""
    items = (await groups.http.get("/v1/groups")).json()["items"]
    return {group["unit"]: (group["version"], group["invite_link"]) for group in items}


async def set_link(groups: Running, unit: str, link: str) -> None:
    [group] = (await groups.http.get("/v1/groups", params={"unit": unit})).json()["items"]
    answer = await groups.http.patch(
        f"/v1/groups/{group['id']}",
        json={"invite_link": link},
        headers={"if-match": f'"{group["version"]}"'},
    )
    assert answer.status_code == 200, answer.text


async def test_the_keys_of_invite_links_are_rotated_beside_the_service(
    mongo_uri: str, kafka_bootstrap: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 2)
    base = lent_settings(mongo_uri, kafka_bootstrap, "groups", keys)
    first = GroupsSettings(**base, **GROUPS_KEYS)
    anew = b64encode(secrets.token_bytes(96)).decode()
    both = GroupsSettings(**base, master_keys={"second": anew, **GROUPS_KEYS["master_keys"]})
    second = GroupsSettings(**base, master_keys={"second": anew})
    await make_topics(first)
    async with started(build, first, keys=keys, admin_scopes=SCOPES) as groups:
        shape = await shape_of(groups.runtime.client, first.database)
        await tree(groups, "BR-SARAN", *BOOTHS)
        await groups.publish(*[joins(1, booth)[0] for booth in BOOTHS])
        await placed(groups, len(BOOTHS))
        for booth in BOOTHS[:3]:  # the last has none
            await set_link(groups, booth, f"https://chat.example/{booth}")
        before, told = await links(groups), len(await groups.log(TOPIC))

    said: list[str] = []

    async def rotate(max_batches: int | None = None) -> bool:
        return await rotation.rotate_keys(
            both, both.master_keys, build(both).migrations, SEALED, said.append,
            settle_seconds=0, max_batches=max_batches,
        )  # fmt: skip

    async with started(build, both, keys=keys, admin_scopes=SCOPES) as groups:
        rows = groups.runtime.database["groups"]
        old = {row["_id"]: row["sealed_link"] async for row in rows.find({"sealed_link": {"$exists": True}})}
        assert not await rotate(max_batches=1)
        assert await links(groups) == before
        assert await rotate()
        assert "data keys sealed by the current master key: 1" in said
        assert said[-2:] == ["groups checked: 1, invite links sealed anew: 1", "done"]
        assert await links(groups) == before
        assert len(await groups.log(TOPIC)) == told, "nobody is told of anything"
        await set_link(groups, BOOTHS[3], "https://chat.example/new")
        new = {row["_id"]: row["sealed_link"] async for row in rows.find({"sealed_link": {"$exists": True}})}
        assert len(new) == 4
        assert not {bytes(link) for link in new.values()} & {bytes(link) for link in old.values()}
        vault = Vault(groups.runtime.client, groups.runtime.database, first.master_keys)
        for sealed in (*old.items(), *new.items()):
            with pytest.raises(EncryptionError):
                await vault.open([sealed])
        await vault.close()

    async with started(build, second, keys=keys, admin_scopes=SCOPES) as groups:
        now = await links(groups)
        assert {unit: now[unit] for unit in BOOTHS[:3]} == {unit: before[unit] for unit in BOOTHS[:3]}
        assert now[BOOTHS[3]][1] == "https://chat.example/new"
    await release(first, shape)
