"""Key rotation: data keys sealed by the current master key, a new data key, every contact sealed with it.

Interrupted, it continues where it was. Nothing about the members changes: no version, no event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bson.binary import Binary

from services.members.settings import MembersSettings
from services.members.store import MIGRATIONS, Resealing
from services.shared.clock import SystemClock
from services.shared.crypto import REFRESH_SECONDS, Vault, is_sealed_with
from services.shared.migrations import migrate
from services.shared.mongo import connect, database

BATCH: Final = 500


async def rotate_keys(
    settings: MembersSettings,
    say: Callable[[str], None],
    *,
    settle_seconds: float = REFRESH_SECONDS,
    max_batches: int | None = None,
) -> bool:
    """Rotate; True once everything is under the new key.

    `settle_seconds` is how long to wait until running services seal with the new data key too.
    `max_batches` ends early; the next call continues.
    """
    client = connect(settings.mongo_uri, app_name="sangathan-members-rotation")
    members = database(client, settings.database)
    vault = Vault(client, members, settings.master_keys)
    try:
        await migrate(members, MIGRATIONS, SystemClock())
        say(f"data keys sealed by the current master key: {await vault.rotate_master()}")
        return await _reseal(vault, Resealing(members), say, settle_seconds, max_batches)
    finally:
        await vault.close()
        client.close()


async def _reseal(
    vault: Vault, resealing: Resealing, say: Callable[[str], None], settle: float, max_batches: int | None
) -> bool:
    key, after = await _begin(vault, resealing, say, settle)
    seen = changed = batches = 0
    while rows := await resealing.batch(after, BATCH):
        if batches == max_batches:
            return False
        behind = [(i, old) for i, old in rows if not is_sealed_with(key, old)]
        contacts = await vault.open(behind)
        new = await vault.seal((i, contact) for (i, _), contact in zip(behind, contacts, strict=True))
        await resealing.replace([(i, old, sealed) for (i, old), sealed in zip(behind, new, strict=True)])
        after = rows[-1][0]
        await resealing.reached(key, after)
        seen, changed, batches = seen + len(rows), changed + len(behind), batches + 1
        say(f"members looked at: {seen}, contacts sealed anew: {changed}")
    await resealing.finish()
    say("done")
    return True


async def _begin(
    vault: Vault, resealing: Resealing, say: Callable[[str], None], settle: float
) -> tuple[Binary, str]:
    """The key to seal with, and the id to continue after."""
    earlier = await resealing.unfinished()
    if earlier and earlier["key"] == await vault.current_key():
        say("continuing the rotation that was interrupted")
        return earlier["key"], earlier["after"]
    key = await vault.rotate_data_key()
    say(f"new data key made; waiting {settle:.0f} s until running services use it")
    await asyncio.sleep(settle)
    await resealing.reached(key, "")
    return key, ""
