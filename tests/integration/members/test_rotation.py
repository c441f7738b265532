"""Keys at rest are rotated without a change that anyone sees."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.errors import EncryptionError

from infra.local.keys import Keys
from services.members.__main__ import SEALED
from services.members.app import build
from services.members.settings import MembersSettings
from services.shared.encryption import Vault, is_sealed_with
from services.shared.operations import rotation
from tests.fixtures.sealed import sealed_by_libmongocrypt
from tests.integration.members.conftest import serving


def with_keys(settings: MembersSettings, **keys: bytes) -> MembersSettings:
    values = settings.model_dump() | {
        "master_keys": {name: b64encode(key) for name, key in keys.items()},
        "blind_index_key": b64encode(settings.blind_index_key),
    }
    return MembersSettings(**values)


async def rotate(settings: MembersSettings, say: Callable[[str], None], **options: Any) -> bool:
    migrations = build(settings).migrations
    return await rotation.rotate_keys(settings, settings.master_keys, migrations, SEALED, say, **options)


async def test_rotation_of_both_keys(settings: MembersSettings, keys: Keys) -> None:
    old, new = settings.master_keys["first"], secrets.token_bytes(96)
    said: list[str] = []
    async with serving(settings, keys) as service:
        members = [await service.register(email="a@example.org") for _ in range(3)]
        before = {row["_id"]: row async for row in service.db["members"].find({})}
        assert await rotate(with_keys(settings, second=new, first=old), said.append, settle_seconds=0)
        after = {row["_id"]: row async for row in service.db["members"].find({})}
        assert "data keys sealed by the current master key: 1" in said
        assert "members checked: 3, contacts sealed anew: 3" in said
        async for key in service.db["keys"].find({}):
            assert key["masterKey"]["provider"] == "local:second"
        for member_id, row in after.items():
            assert row.pop("contact") != before[member_id].pop("contact")
            assert row == before[member_id]

        # The old master key opens nothing any more, only the new one does.
        client, db = service.app.runtime.client, service.db
        vault = Vault(client, db, {"second": new})
        newest = await vault.current_key()
        sealed = [(await service.stored(member["id"]))["contact"] for member in members]
        assert all(is_sealed_with(newest, one) for one in sealed)
        owned = [(member["id"], one) for member, one in zip(members, sealed, strict=True)]
        assert [each["phone"] for each in await vault.open(owned)] == [m["phone"] for m in members]
        with pytest.raises(EncryptionError):
            await Vault(client, db, {"first": old}).open(owned)


async def test_contacts_that_libmongocrypt_sealed_are_read_and_sealed_anew(
    settings: MembersSettings, keys: Keys
) -> None:
    """A database from before there were content keys; the bytes are those of its own data key."""
    async with serving(settings, keys) as service:
        member = await service.register(email="a@example.org")
        contact = {"phone": member["phone"], "email": member["email"], "handles": {}}
        [key] = await service.db["keys"].distinct("_id")
        old = await sealed_by_libmongocrypt(
            service.app.runtime.client, service.db, settings.master_keys, key, contact
        )
        await service.db["members"].update_one({"_id": member["id"]}, {"$set": {"contact": old}})
        assert (await service.http.get(f"/v1/members/{member['id']}")).json() == member
        said: list[str] = []
        assert await rotate(settings, said.append, settle_seconds=0)
        assert "members checked: 1, contacts sealed anew: 1" in said
        new = (await service.stored(member["id"]))["contact"]
        assert (old.subtype, new.subtype) == (6, 128)
        assert (await service.http.get(f"/v1/members/{member['id']}")).json() == member


async def test_a_contact_that_was_put_into_another_member_is_not_shown(
    settings: MembersSettings, keys: Keys
) -> None:
    async with serving(settings, keys) as service:
        one, other = await service.register(), await service.register()
        taken = (await service.stored(one["id"]))["contact"]
        await service.db["members"].update_one({"_id": other["id"]}, {"$set": {"contact": taken}})
        answer = await service.http.get(f"/v1/members/{other['id']}")
        assert answer.status_code == 500
        assert one["phone"] not in answer.text


async def test_a_rotation_that_was_interrupted_continues(
    settings: MembersSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 2)
    said: list[str] = []
    async with serving(settings, keys) as service:
        for _ in range(5):
            await service.register()
        assert not await rotate(settings, said.append, settle_seconds=0, max_batches=1)
        assert await rotate(settings, said.append, settle_seconds=0)
        assert "continuing the interrupted rotation" in said
        assert said[-2] == "members checked: 3, contacts sealed anew: 3"
        assert await service.db["keys"].count_documents({}) == 2
        listed = (await service.http.get("/v1/members")).json()["items"]
        assert all(member["phone"].startswith("+9198") for member in listed)


async def test_a_running_service_reads_what_was_rotated_beside_it(
    settings: MembersSettings, keys: Keys
) -> None:
    async with serving(settings, keys) as service:
        member = await service.register()
        await rotate(settings, lambda _: None, settle_seconds=0)
        assert (await service.http.get(f"/v1/members/{member['id']}")).json() == member
        other = await service.register()
        assert (await service.http.get(f"/v1/members/{other['id']}")).json() == other
