"""Consents of one member: each change is a ledger entry, the member's new state and its event at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.members.consents import domain
from services.members.consents.domain import Given
from services.members.core.core import Core
from services.members.core.domain import Consent, Member, Status, consent_of
from services.members.core.errors import not_active, notice_is_another, unknown_notice
from services.members.core.ledger import LedgerEntry, Pair, entry_of, untaken, whole
from services.members.core.notices import Notice, digest_of
from services.shared.contracts.base import Step
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.messaging import Origin, UnitOfWork


@dataclass(frozen=True, slots=True)
class Ledger:
    """A member's consents now, and all their changes in order."""

    member: Member
    entries: Sequence[LedgerEntry]


@dataclass(frozen=True, slots=True)
class Proof:
    """A ledger with the texts that its entries name; those that were never registered are missing."""

    ledger: Ledger
    notices: Sequence[Notice]
    made_at: datetime


class Consents:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._clock = core.runtime.clock
        self._ledger = core.ledger
        self._notices = core.notices
        self._changed = core.metrics.consents

    async def give(
        self, caller: Identity, member_id: str, given: Given, version: int | None, origin: Origin
    ) -> tuple[Member, Consent]:
        """The member, and the consent as it is recorded.

        Raises: `NotFoundError`, `StaleVersionError`, `ConflictError` (has left), `InvalidError` (no such
        notice).
        """

        pair = (given.purpose, given.channel)

        async def decide(member: Member, work: UnitOfWork) -> Step[Member]:
            notice = await self._notices.find(given.notice, given.language, work.session)
            if notice is None:
                raise unknown_notice()
            if member.status != Status.ACTIVE:
                raise not_active(member)
            step = domain.give(member, given, self._clock.now())
            if step.events:
                proof = {"notice_sha256": notice.sha256, "evidence": given.evidence}
                await self._record(member, step.state, pair, work, actor=caller.subject, **proof)
            return step

        changes = self._core.changes
        member = await changes.change(member_id, decide, origin, caller=caller, version=version)
        consent = consent_of(member, *pair)
        assert consent is not None
        return member, consent

    async def withdraw(
        self,
        caller: Identity,
        member_id: str,
        pair: Pair,
        source: str,
        version: int | None,
        origin: Origin,
    ) -> None:
        """`pair` is `(purpose, channel)`, given or not. Also for who left; withdrawing again changes nothing.
        It is withdrawn for the person: in every record that is merged with this one.

        Raises: `NotFoundError`, `StaleVersionError`.
        """

        async def decide(member: Member, work: UnitOfWork) -> Step[Member]:
            step = domain.withdraw(member, *pair, source, self._clock.now())
            if step.events:
                await self._record(member, step.state, pair, work, actor=caller.subject)
            return step

        changes = self._core.changes
        await changes.change(member_id, decide, origin, caller=caller, version=version)
        for record in await self._core.store.person(member_id):
            if record.member.id != member_id:
                await changes.change(record.member.id, decide, origin)

    async def ledger(self, caller: Identity, member_id: str) -> Ledger:
        """Raises: `NotFoundError`."""
        member = (await self._core.reader.find(caller, member_id)).member
        return Ledger(member, whole(member, await self._ledger.of(member_id, upto=member.version)))

    async def proof(self, caller: Identity, member_id: str) -> Proof:
        """Raises: `NotFoundError`."""
        ledger = await self.ledger(caller, member_id)
        named = {(entry.notice, entry.language) for entry in ledger.entries}
        return Proof(ledger, await self._notices.find_many(named), self._clock.now())

    async def _record(
        self, before: Member, after: Member, pair: Pair, work: UnitOfWork, **proof: str
    ) -> None:
        """`proof`: those fields of the entry that the member's document does not have."""
        consent = consent_of(after, *pair)
        assert consent is not None
        taken = await self._ledger.pairs(before.id, work.session)
        await self._ledger.add([*untaken(before, taken), entry_of(after, consent, **proof)], work.session)
        work.after_commit(self._changed.labels(consent.purpose, consent.state).inc)


class Notices:
    def __init__(self, core: Core) -> None:
        self._clock = core.runtime.clock
        self._store = core.notices

    async def get(self, version: str, language: str) -> Notice:
        """Raises: `NotFoundError`."""
        notice = await self._store.find(version, language)
        if notice is None:
            raise NotFoundError
        return notice

    async def register(self, caller: Identity, version: str, language: str, text: str) -> tuple[Notice, bool]:
        """The notice, and whether it is new. A registered text never changes: proofs name it.

        Raises: `ConflictError` for another text of the same version and language.
        """
        notice = Notice(
            version=version,
            language=language,
            text=text,
            sha256=digest_of(text),
            registered_by=caller.subject,
            registered_at=self._clock.now(),
        )
        if await self._store.add(notice):
            return notice, True
        present = await self.get(version, language)
        if present.sha256 != notice.sha256:
            raise notice_is_another()
        return present, False
