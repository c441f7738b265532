"""For operators to look at: callbacks set aside, opt-outs that were only inferred, calls to join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from services.notifications.core.core import Core
from services.notifications.core.suppressions.domain import LOOKED_AT, MESSAGES, Act, Suppression
from services.notifications.webhooks.store import Buried, CallbackStore, InboundStore
from services.shared.errors import ConflictError, NotFoundError
from services.shared.identity import Identity
from services.shared.messaging import Origin, UnitOfWork

log = structlog.get_logger(__name__)

OWN_ACT: Final = "own_act"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has asked to join by a missed call."""

    id: str
    at: datetime
    phone: str = field(repr=False)


class Webhooks:
    def __init__(self, core: Core, callbacks: CallbackStore, inbound: InboundStore) -> None:
        self._core = core
        self._callbacks = callbacks
        self._inbound = inbound
        self._clock = core.clock

    async def buried(self, after: str | None, limit: int) -> Sequence[Buried]:
        return await self._callbacks.buried(after, limit)

    async def dig_up(self, id_: str) -> None:
        """Raises: `NotFoundError`."""
        if not await self._callbacks.dig_up(id_, self._clock.now()):
            raise NotFoundError

    async def inferred(self, caller: Identity, after: str | None, limit: int) -> Sequence[Suppression]:
        """Inferred opt-outs in the caller's units. Raises: `NotFoundError` for a caller without any unit."""
        return await self._core.suppressions.inferred(caller.accessible_root(None), after, limit)

    async def lift(self, caller: Identity, id_: str) -> None:
        """Lift an opt-out that was inferred, after a look at it.

        Raises: `NotFoundError`; `ConflictError` if the person has stopped it themselves: only they lift that.
        """

        async def body(work: UnitOfWork) -> None:
            entry = (await self._core.suppressions.by_id([id_], work.session)).get(id_)
            if entry is None or not entry.stopped:
                raise NotFoundError
            if entry.unit is None:
                caller.check_all_units()
            else:
                caller.check_access(entry.unit)
            if not entry.inferred:
                raise ConflictError(OWN_ACT, "the person has stopped this; only they can lift it")
            act = Act(id_, entry.channel, False, MESSAGES, LOOKED_AT, self._clock.now())
            await self._core.opting_out.act([act], work, Origin.here())

        await self._core.runtime.outbox.transact(body)

    async def callers(self, caller: Identity, after: str | None, limit: int) -> Sequence[Caller]:
        """Numbers that nobody has called back; the log says who reads them."""
        rows = await self._inbound.callers(after, limit)
        opened = await self._core.vault.open((row["_id"], row["sealed"]) for row in rows)
        log.info("callers.read", subject=caller.subject, count=len(rows))
        return [Caller(row["_id"], row["at"], said["phone"]) for row, said in zip(rows, opened, strict=True)]

    async def forget_caller(self, id_: str) -> None:
        """Raises: `NotFoundError`."""
        if not await self._inbound.forget_caller(id_):
            raise NotFoundError
