"""Cached contacts and recorded messages are sealed anew, and the old master key opens nothing any more."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import pytest
from pymongo.errors import EncryptionError

from services.notifications.__main__ import SEALED
from services.shared.encryption import Vault
from services.shared.operations import rotation
from tests.integration.notifications.conftest import START, Bench

LATER = datetime(2999, 1, 1, tzinfo=UTC)


async def test_what_is_sealed_is_sealed_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 2)
    old = bench.settings.master_keys
    anew = {"second": secrets.token_bytes(96), **old}
    client, database = bench.runtime.client, bench.database
    vault = Vault(client, database, old)
    ids = ["a", "b", "c"]
    sealed = await vault.seal((id_, {"text": id_}) for id_ in ids)
    for each in SEALED:
        fields = {"member_id": "m", "version": 1, "at": START, "received_at": START, "forget_at": LATER}
        fields |= {"source": "whatsapp", "kind": "answer", "channel": "whatsapp"}
        rows = [{"_id": i, each.field: s, **fields} for i, s in zip(ids, sealed, strict=True)]
        await database[each.collection].insert_many(rows)
    await vault.close()
    said: list[str] = []

    async def rotate(max_batches: int | None = None) -> bool:
        return await rotation.rotate_keys(
            bench.settings,
            anew,
            bench.service.migrations,
            SEALED,
            said.append,
            settle_seconds=0,
            max_batches=max_batches,
        )

    assert not await rotate(3), "one collection and a part of the next"
    assert await rotate()
    assert "contacts checked: 3, contacts sealed anew: 3" in said
    assert "recorded_messages checked: 1, messages sealed anew: 1" in said
    assert "inbound checked: 3, answers sealed anew: 3" in said
    assert await database["keys"].count_documents({}) == 2
    new, before = Vault(client, database, {"second": anew["second"]}), Vault(client, database, old)
    for each in SEALED:
        owned = [(row["_id"], row[each.field]) async for row in database[each.collection].find({})]
        assert [d["text"] for d in await new.open(sorted(owned))] == ids
        assert not {bytes(s) for _, s in owned} & {bytes(s) for s in sealed}
        with pytest.raises(EncryptionError):
            await before.open(owned)
    await new.close()
    await before.close()
