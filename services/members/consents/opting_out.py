"""The answer to `member.opted_out`: what a person has stopped on a channel goes into the ledger.

The notifications service has heard the person, who may have written STOP, and sends nothing there already.
Here the consents of that channel end, for each purpose that the stop covers, in every record of the person.
The event tells no number and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.members.consents import domain
from services.members.core.core import Core
from services.members.core.domain import Member, consent_of
from services.members.core.ledger import LedgerEntry, entry_of, untaken
from services.shared.contracts.base import Envelope, Numbered
from services.shared.contracts.notifications import MemberOptedOut
from services.shared.contracts.vocabulary import Channel, Purpose
from services.shared.messaging import Origin, UnitOfWork

ACTOR: Final = "notifications"
_PURPOSES: Final = frozenset(purpose.value for purpose in Purpose)
_CHANNELS: Final = frozenset(channel.value for channel in Channel)


class OptOuts:
    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._ledger = core.ledger
        self._clock = core.runtime.clock
        self._changed = core.metrics.consents

    async def opted_out(self, events: Sequence[Envelope[MemberOptedOut]], work: UnitOfWork) -> None:
        """Withdraw; again, nothing changes. A member who is not known any more has nothing to withdraw.

        A consent that was given after the stop stands: a rebuild hears of old stops again.
        """
        for event in events:
            if event.data.channel not in _CHANNELS:
                continue
            for record in await self._store.person(event.subject, work.session):
                await self._withdraw(record.member, event, work)

    async def _withdraw(self, member: Member, event: Envelope[MemberOptedOut], work: UnitOfWork) -> None:
        said, after = event.data, member
        numbered: list[Numbered] = []
        entries: list[LedgerEntry] = []
        for purpose in said.purposes:
            given = consent_of(after, purpose, said.channel)
            if purpose not in _PURPOSES or (given is not None and given.at > event.time):
                continue
            step = domain.withdraw(after, purpose, said.channel, said.via, self._clock.now())
            if not step.events:
                continue
            after = step.state
            numbered += step.events
            consent = consent_of(after, purpose, said.channel)
            assert consent is not None
            entries.append(entry_of(after, consent, actor=ACTOR, evidence=event.id))
            work.after_commit(self._changed.labels(purpose, consent.state).inc)
        if not entries:
            return
        taken = await self._ledger.pairs(member.id, work.session)
        await self._ledger.add([*untaken(member, taken), *entries], work.session)
        saved = await self._store.save(after, work.session, versions=after.version - member.version)
        assert saved, "what the transaction has read, it can write or must run again"
        work.stage_all(numbered, Origin.of(event))
