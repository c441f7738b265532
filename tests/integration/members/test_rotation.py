"""Keys at rest: made once, rotated without a change that anyone sees, and of no use to others."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from bson.binary import Binary
from pymongo.errors import EncryptionError

from infra.local.keys import Keys
from services.members import rotation
from services.members.rotation import rotate_keys
from services.members.settings import MembersSettings
from services.members.store import MIGRATIONS
from services.shared.clock import SystemClock
from services.shared.crypto import Vault, is_sealed_with
from services.shared.migrations import migrate
from services.shared.mongo import Client, Database, connect, database
from tests.integration.members.conftest import serving


def master_key() -> bytes:
    return b64encode(secrets.token_bytes(96))


def with_keys(settings: MembersSettings, **keys: bytes) -> MembersSettings:
    values = settings.model_dump() | {
        "master_keys": {name: b64encode(key) for name, key in keys.items()},
        "blind_index_key": b64encode(settings.blind_index_key),
    }
    return MembersSettings(**values)


@pytest_asyncio.fixture(loop_scope="session")
async def place(mongo_uri: str, database_name: str) -> AsyncIterator[tuple[Client, Database]]:
    client = connect(mongo_uri, app_name="tests")
    db = database(client, database_name)
    await migrate(db, MIGRATIONS, SystemClock())
    yield client, db
    await client.drop_database(database_name)
    client.close()


async def test_processes_that_start_at_once_share_one_data_key(place: tuple[Client, Database]) -> None:
    client, db = place
    keys = {"m": secrets.token_bytes(96)}
    vaults = [Vault(client, db, keys) for _ in range(8)]
    found = await asyncio.gather(*(vault.current_key() for vault in vaults))
    assert len(set(found)) == 1
    assert await db["keys"].count_documents({}) == 1
    [sealed] = await vaults[0].seal([{"phone": "+919812345678"}])
    assert await vaults[1].open([sealed]) == [{"phone": "+919812345678"}]


async def test_the_age_of_a_data_key_is_that_of_the_newest(place: tuple[Client, Database]) -> None:
    client, db = place
    vault = Vault(client, db, {"m": secrets.token_bytes(96)})
    assert await vault.current_key_at() is None
    await vault.current_key()
    first = await vault.current_key_at()
    assert first is not None
    await asyncio.sleep(0.01)
    await vault.rotate_data_key()
    second = await vault.current_key_at()
    assert second is not None
    assert second > first


async def test_another_master_key_opens_nothing(place: tuple[Client, Database]) -> None:
    client, db = place
    [sealed] = await Vault(client, db, {"m": secrets.token_bytes(96)}).seal([{"a": 1}])
    with pytest.raises(EncryptionError):
        await Vault(client, db, {"m": secrets.token_bytes(96)}).open([sealed])
    with pytest.raises(EncryptionError):
        await Vault(client, db, {"n": secrets.token_bytes(96)}).open([sealed])


async def test_what_was_tampered_with_does_not_open(place: tuple[Client, Database]) -> None:
    vault = Vault(*place, {"m": secrets.token_bytes(96)})
    [sealed] = await vault.seal([{"a": 1}])
    broken = Binary(bytes([*sealed[:-1], sealed[-1] ^ 1]), sealed.subtype)
    with pytest.raises(EncryptionError):
        await vault.open([broken])


def test_names_of_master_keys_that_libmongocrypt_cannot_tell_apart(place: tuple[Client, Database]) -> None:
    with pytest.raises(ValueError, match="differ"):
        Vault(*place, {"a-1": secrets.token_bytes(96), "a_1": secrets.token_bytes(96)})


async def test_rotation_of_both_keys(settings: MembersSettings, keys: Keys) -> None:
    old, new = settings.master_keys["first"], secrets.token_bytes(96)
    said: list[str] = []
    async with serving(settings, keys) as service:
        members = [await service.register(email="a@example.org") for _ in range(3)]
        before = {row["_id"]: row async for row in service.db["members"].find({})}
        assert await rotate_keys(with_keys(settings, second=new, first=old), said.append, settle_seconds=0)
        after = {row["_id"]: row async for row in service.db["members"].find({})}
        assert "data keys sealed by the current master key: 1" in said
        assert "members looked at: 3, contacts sealed anew: 3" in said
        async for key in service.db["keys"].find({}):
            assert key["masterKey"]["provider"] == "local:second"
        for member_id, row in after.items():
            assert row.pop("contact") != before[member_id].pop("contact")
            assert row == before[member_id]

        # What only the old master key opened, only the new one opens now; a second rotation finds all behind again.
        client, db = service.app.kernel.client, service.db
        vault = Vault(client, db, {"second": new})
        newest = await vault.current_key()
        sealed = [(await service.stored(member["id"]))["contact"] for member in members]
        assert all(is_sealed_with(newest, one) for one in sealed)
        assert [each["phone"] for each in await vault.open(sealed)] == [m["phone"] for m in members]
        with pytest.raises(EncryptionError):
            await Vault(client, db, {"first": old}).open(sealed)


async def test_a_rotation_that_was_interrupted_continues(
    settings: MembersSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 2)
    said: list[str] = []
    async with serving(settings, keys) as service:
        for _ in range(5):
            await service.register()
        assert not await rotate_keys(settings, said.append, settle_seconds=0, max_batches=1)
        assert await rotate_keys(settings, said.append, settle_seconds=0)
        assert "continuing the rotation that was interrupted" in said
        assert said[-2] == "members looked at: 3, contacts sealed anew: 3"
        assert await service.db["keys"].count_documents({}) == 2
        listed = (await service.http.get("/v1/members")).json()["items"]
        assert all(member["phone"].startswith("+9198") for member in listed)


async def test_a_running_service_reads_what_was_rotated_beside_it(
    settings: MembersSettings, keys: Keys
) -> None:
    async with serving(settings, keys) as service:
        member = await service.register()
        await rotate_keys(settings, lambda _: None, settle_seconds=0)
        assert (await service.http.get(f"/v1/members/{member['id']}")).json() == member
        other = await service.register()
        assert (await service.http.get(f"/v1/members/{other['id']}")).json() == other
