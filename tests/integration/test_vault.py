"""The vault: keys are made once; ciphertexts open only whole, in their own document, with the right key."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Final

import pytest
import pytest_asyncio
from bson.binary import Binary
from pymongo.errors import EncryptionError, PyMongoError

from services.shared.database import Client, Database, Document, connect, database
from services.shared.encryption import Vault, create_key_collection, is_sealed_with
from services.shared.encryption import vault as crypto
from services.shared.faults import FaultFamily, classify
from tests.fixtures.sealed import sealed_by_libmongocrypt

OWNER: Final = "01970000-0000-7000-8000-000000000001"
OTHER: Final = "01970000-0000-7000-8000-000000000002"
CONTACT: Final = {"phone": "+919812345678", "email": None, "handles": {"whatsapp": "+919812345678"}}


class Place:
    """A database, and any number of processes of its service, each with its own vault."""

    def __init__(self, client: Client, db: Database) -> None:
        self.client = client
        self.db = db
        self.keys = {"first": secrets.token_bytes(96)}
        self._vaults: list[Vault] = []

    def process(self, keys: dict[str, bytes] | None = None) -> Vault:
        self._vaults.append(Vault(self.client, self.db, keys or self.keys))
        return self._vaults[-1]

    async def rows(self, collection: str) -> list[Document]:
        return await self.db[collection].find({}).sort("_id", 1).to_list(None)

    async def end(self) -> None:
        for vault in self._vaults:
            await vault.close()


@pytest_asyncio.fixture(loop_scope="session")
async def place(mongo_uri: str, database_name: str) -> AsyncIterator[Place]:
    client = connect(mongo_uri, app_name="tests")
    place = Place(client, database(client, database_name))
    await create_key_collection(place.db)
    yield place
    await place.end()
    await client.drop_database(database_name)
    client.close()


async def test_processes_that_start_at_once_share_one_data_key_and_one_content_key(place: Place) -> None:
    vaults = [place.process() for _ in range(8)]
    sealed = [one for [one] in await asyncio.gather(*(vault.seal([(OWNER, CONTACT)]) for vault in vaults))]
    [key] = await place.rows("keys")
    [content_key] = await place.rows("content_keys")
    assert content_key["_id"] == key["_id"]
    assert all(is_sealed_with(key["_id"], one) for one in sealed)
    for vault in vaults:
        assert await vault.open((OWNER, one) for one in sealed) == [CONTACT] * 8


async def test_sealing_waits_until_a_new_key_is_durable(place: Place) -> None:
    """The key can be read before it is durable, but sealing must wait until it is."""
    held = {"configureFailPoint": "disableSnapshotting"}  # no write becomes durable with a majority
    vaults = [place.process() for _ in range(2)]
    await place.client.admin.command(held | {"mode": "alwaysOn"})
    try:
        making = [asyncio.create_task(vaults[0].seal([(OWNER, CONTACT)]))]
        async with asyncio.timeout(10):
            while not await place.rows("keys"):  # noqa: ASYNC110 (a database gives no signal)
                await asyncio.sleep(0.01)
        making.append(asyncio.create_task(vaults[1].seal([(OWNER, CONTACT)])))
        done, _ = await asyncio.wait(making, timeout=0.5)
        assert not done
    finally:
        await place.client.admin.command(held | {"mode": "off"})
        await place.db["any"].insert_one(
            {}
        )  # otherwise nothing becomes durable until the server's own next write
    [[one], [other]] = await asyncio.gather(*making)
    assert await vaults[0].open([(OWNER, one), (OWNER, other)]) == [CONTACT] * 2


async def test_a_batch_comes_back_in_order(place: Place) -> None:
    batch = [(OTHER, {"n": 2}), (OWNER, {"n": 1}), (OTHER, {"n": 3})]
    sealed = await place.process().seal(batch)
    owners = [owner for owner, _ in batch]
    assert await place.process().open(zip(owners, sealed, strict=True)) == [{"n": 2}, {"n": 1}, {"n": 3}]


async def test_nothing_stored_shows_a_key_or_the_same_document_twice(place: Place) -> None:
    one, two = await place.process().seal([(OWNER, CONTACT)] * 2)
    assert one[17:29] != two[17:29]
    assert one[29:] != two[29:]
    assert b"9812345678" not in bytes(one)
    [row] = await place.rows("content_keys")
    assert (row["sealed"].subtype, row["sealed"][1:17]) == (6, bytes(row["_id"]))


async def test_another_master_key_opens_nothing(place: Place) -> None:
    [sealed] = await place.process().seal([(OWNER, CONTACT)])
    for name in ("first", "second"):
        with pytest.raises(EncryptionError):
            await place.process({name: secrets.token_bytes(96)}).open([(OWNER, sealed)])


def flipped(position: int) -> Callable[[bytes], bytes]:
    def flip(sealed: bytes) -> bytes:
        changed = bytearray(sealed)
        changed[position] ^= 1
        return bytes(changed)

    return flip


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(flipped(0), id="form"),
        pytest.param(flipped(1), id="key id"),
        pytest.param(flipped(17), id="nonce"),
        pytest.param(flipped(29), id="ciphertext"),
        pytest.param(flipped(-1), id="tag"),
        pytest.param(lambda sealed: sealed[:-1], id="last byte gone"),
        pytest.param(lambda sealed: sealed + b"\0", id="a byte more"),
        pytest.param(lambda sealed: sealed[:29], id="no ciphertext"),
        pytest.param(lambda sealed: sealed[:20], id="half a nonce"),
        pytest.param(lambda sealed: sealed[:9], id="half a key id"),
        pytest.param(lambda sealed: b"", id="empty"),
    ],
)
async def test_what_was_tampered_with_does_not_open(place: Place, tamper: Callable[[bytes], bytes]) -> None:
    vault = place.process()
    [sealed] = await vault.seal([(OWNER, CONTACT)])
    for subtype in (sealed.subtype, 6):  # 6 goes to libmongocrypt
        with pytest.raises(EncryptionError):
            await vault.open([(OWNER, Binary(tamper(bytes(sealed)), subtype))])
    assert len(await place.rows("content_keys")) == 1


async def test_a_ciphertext_under_the_id_of_another_key_does_not_open(place: Place) -> None:
    vault = place.process()
    [sealed] = await vault.seal([(OWNER, CONTACT)])
    other = await vault.rotate_data_key()
    forged = Binary(sealed[:1] + bytes(other) + sealed[17:], sealed.subtype)
    with pytest.raises(EncryptionError):
        await vault.open([(OWNER, forged)])


async def test_a_ciphertext_moved_to_another_document_does_not_open(place: Place) -> None:
    vault = place.process()
    [sealed] = await vault.seal([(OWNER, CONTACT)])
    with pytest.raises(EncryptionError):
        await vault.open([(OTHER, sealed)])
    assert await vault.open([(OWNER, sealed)]) == [CONTACT]


async def test_a_new_master_key_seals_the_data_keys_and_changes_nothing_else(place: Place) -> None:
    [sealed] = await place.process().seal([(OWNER, CONTACT)])
    content_keys = await place.rows("content_keys")
    new = {"second": secrets.token_bytes(96)}
    assert await place.process(new | place.keys).rotate_master() == 1
    assert await place.process(new | place.keys).rotate_master() == 0
    assert await place.rows("content_keys") == content_keys
    assert await place.process(new).open([(OWNER, sealed)]) == [CONTACT]
    with pytest.raises(EncryptionError):
        await place.process().open([(OWNER, sealed)])


async def test_running_processes_switch_to_a_new_data_key(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, rotating = place.process(), place.process()
    [before] = await running.seal([(OWNER, CONTACT)])
    key = await rotating.rotate_data_key()
    [after] = await rotating.seal([(OWNER, CONTACT)])
    assert (is_sealed_with(key, before), is_sealed_with(key, after)) == (False, True)
    assert await running.open([(OWNER, after), (OWNER, before)]) == [CONTACT] * 2

    [meanwhile] = await running.seal([(OWNER, CONTACT)])
    assert not is_sealed_with(key, meanwhile)
    later = time.monotonic() + crypto.REFRESH_SECONDS
    monkeypatch.setattr(crypto, "time", SimpleNamespace(monotonic=lambda: later))
    [then] = await running.seal([(OWNER, CONTACT)])
    assert is_sealed_with(key, then)


async def test_documents_sealed_by_libmongocrypt_open_and_count_as_sealed_with_no_key(place: Place) -> None:
    vault = place.process()
    key = await vault.current_key()
    old = await sealed_by_libmongocrypt(place.client, place.db, place.keys, key, CONTACT)
    [new] = await vault.seal([(OTHER, CONTACT)])
    assert (old[0], old[1:17]) == (2, bytes(key))
    assert await vault.open([(OWNER, old), (OTHER, new)]) == [CONTACT] * 2
    assert not is_sealed_with(key, old)
    broken = Binary(flipped(-1)(bytes(old)), old.subtype)
    with pytest.raises(EncryptionError):
        await vault.open([(OWNER, broken)])


@pytest.mark.parametrize(
    ("command", "on"), [("findAndModify", "content_keys"), ("find", "keys")], ids=["content key", "data key"]
)
async def test_a_brief_database_outage_is_a_transient_fault(
    place: Place, mongo_uri: str, command: str, on: str
) -> None:
    [sealed] = await place.process().seal([(OWNER, CONTACT)])
    # A driver that was told of a shutdown waits for the server's next sign of life: by default 10 s.
    client = connect(f"{mongo_uri}&heartbeatFrequencyMS=500", app_name="tests")
    vault = Vault(client, database(client, place.db.name), place.keys)
    failing = {
        "failCommands": [command],
        "namespace": f"{place.db.name}.{on}",
        "errorCode": 11600,  # InterruptedAtShutdown
    }
    await place.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=failing)
    try:
        with pytest.raises(PyMongoError) as caught:
            await vault.open([(OWNER, sealed)])
    finally:
        await place.client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert classify(caught.value) is FaultFamily.TRANSIENT
    assert await vault.open([(OWNER, sealed)]) == [CONTACT]
    await vault.close()
    client.close()


async def test_the_age_of_a_data_key_is_that_of_the_newest(place: Place) -> None:
    vault = place.process()
    assert await vault.current_key_at() is None
    await vault.current_key()
    first = await vault.current_key_at()
    assert first is not None
    await asyncio.sleep(0.01)
    await vault.rotate_data_key()
    second = await vault.current_key_at()
    assert second is not None
    assert second > first
