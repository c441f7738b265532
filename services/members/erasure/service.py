"""Erasures: requested, acknowledged by the others, asked again, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from services.members.core import erasing
from services.members.core.core import Core
from services.members.core.domain import Member
from services.members.core.erasing import Erasure, ErasureState
from services.shared.contracts.base import Envelope, Step
from services.shared.contracts.erasure import ErasureAcknowledged
from services.shared.contracts.groups import GroupsErasureAcknowledged
from services.shared.errors import NotFoundError, PermanentError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork

VIA: Final = "removal"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to be removed from a chat group."""

    name: str
    phone: str


class Erasures:
    def __init__(self, core: Core, again: timedelta) -> None:
        self._core = core
        self._store = core.erasures
        self._outbox = core.runtime.outbox
        self._clock = core.runtime.server_clock
        self._again = again
        self._steps = core.metrics.erasures

    async def request(self, caller: Identity, member_id: str, origin: Origin) -> Erasure:
        """Take the member out of use, and ask the others to destroy what they keep. Asking twice answers the
        first erasure.

        It is the person who is erased: with a member go all who were merged into it, and with somebody who
        was merged, who stands for them. Each has an erasure of their own.

        Raises: `NotFoundError`.
        """

        async def write(work: UnitOfWork) -> Erasure:
            if found := (await self._store.of_members([member_id], work.session)).get(member_id):
                caller.check_access(found.unit)
                return found
            records = await self._core.store.person(member_id, work.session)
            if not records:
                raise NotFoundError
            caller.check_access(records[0].member.unit)
            begun = {
                record.member.id: await self._begin(caller, record.member, work, origin) for record in records
            }
            return begun[member_id]

        return await self._outbox.transact(write)

    async def _begin(self, caller: Identity, member: Member, work: UnitOfWork, origin: Origin) -> Erasure:
        asked = Erasure(
            id=new_id(),
            member_id=member.id,
            unit=member.unit,
            status=member.status,
            rule=self._core.erasure_rule,
            requested_by=caller.subject,
            requested_at=self._clock.now(),
            sequence=member.version,
        )
        step = erasing.request(asked, self._again)
        work.stage_all(step.events, origin)
        work.after_commit(self._steps.labels("requested").inc)
        return await self._core.eraser.erase(step.state, work)

    async def get(self, caller: Identity, erasure_id: str) -> Erasure:
        """Raises: `NotFoundError`."""
        erasure = await self._store.find(erasure_id)
        if erasure is None:
            raise NotFoundError
        caller.check_access(erasure.unit)
        return erasure

    async def page(
        self, caller: Identity, unit: str | None, state: str | None, after: str | None, limit: int
    ) -> list[Erasure]:
        """Raises: `NotFoundError` for a unit outside the caller's."""
        return await self._store.page(caller.accessible_root(unit), state, after, limit)

    async def acknowledged(self, answers: Sequence[Envelope[ErasureAcknowledged]], work: UnitOfWork) -> None:
        """Note what a service has destroyed. An answer to nothing that was asked is refused."""
        known = await self._store.find_many([answer.subject for answer in answers], work.session)
        now = self._clock.now()
        for answer in answers:
            data, erasure = answer.data, known.get(answer.subject)
            if erasure is None or erasure.member_id != data.member_id or data.attempt > erasure.attempt:
                work.refuse(answer.id, PermanentError("unknown_erasure", "no such request was published"))
                continue
            service = data.source.removeprefix("/")
            groups = data.group_ids if isinstance(data, GroupsErasureAcknowledged) else ()
            step = erasing.acknowledge(erasure, service, data.destroyed, groups, now)
            await self._take(erasure, step, Origin.of(answer), work)

    async def settle(self, erasure_id: str) -> None:
        """Do what is due: ask again, or destroy the seal. Again, nothing changes."""

        async def write(work: UnitOfWork) -> None:
            now = self._clock.now()
            erasure = await self._store.find(erasure_id, work.session)
            if erasure is None or erasure.next_at is None or erasure.next_at > now:
                return
            if erasure.state is ErasureState.SEALED:
                step = erasing.end(erasure, now)
            else:
                step = erasing.ask_again(erasure, self._again, now)
            await self._take(erasure, step, Origin.here(), work)

        await self._outbox.transact(write)

    async def person(self, caller: Identity, erasure_id: str) -> tuple[Erasure, Person | None]:
        """The person to be removed from chat groups; None if nobody has. Recorded as a read.

        Raises: `NotFoundError`.
        """
        erasure = await self.get(caller, erasure_id)
        number = await self._store.number(erasure_id)
        if number is None or not any(each.done_at is None for each in erasure.removals):
            return erasure, None
        await self._core.reader.record(caller, [erasure.member_id], VIA)
        [who] = await self._core.vault.open([(erasure_id, number)])
        return erasure, Person(who["name"], who["phone"])

    async def removed(self, caller: Identity, erasure_id: str, group_id: str) -> Erasure:
        """The person was removed from the chat group. Raises: `NotFoundError`."""

        async def write(work: UnitOfWork) -> Erasure:
            erasure = await self._store.find(erasure_id, work.session)
            if erasure is None or group_id not in {each.group_id for each in erasure.removals}:
                raise NotFoundError
            caller.check_access(erasure.unit)
            after = erasing.removed(erasure, group_id, caller.subject, self._clock.now())
            if after != erasure:
                await self._store.save(after, work.session)
            return after

        return await self._outbox.transact(write)

    async def _take(self, before: Erasure, step: Step[Erasure], origin: Origin, work: UnitOfWork) -> None:
        after = step.state
        if after == before:
            return
        await self._store.save(after, work.session)
        work.stage_all(step.events, origin)
        if after.attempt != before.attempt:
            name = "asked_again"
        elif after.state is not before.state:
            name = after.state.value
        else:
            name = "acknowledged"
        work.after_commit(self._steps.labels(name).inc)
