"""Bringing a restored dump up to date from the service's own topic, which holds nothing personal.

A member in the dump gets the attributes and the sequence of the newest event, so that the next change is not
taken for a stale one. A consent that was withdrawn after the dump is withdrawn again; one that was given
after it is not restored, because its proof is lost: the person has to be asked again. A member who joined
after the dump is lost: the log has no name and no number. The other services know that member; they are now
told that the member left, which frees the seat. The person can join again.

A member who was parted from another after the dump is active again, unless another active member has the
phone: in the dump it is still theirs, who has left since, or has another phone, which the log does not know.
That is decided at the end of the log. Whoever cannot be active is announced as left, and counted.

A member who was erased after the dump is erased again, before anything else is done with them: nobody comes
back from a dump.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeAlias

from services.members.core import erasing
from services.members.core.contacts import Contacts
from services.members.core.domain import ConsentState, Status, with_consent, withdrawn
from services.members.core.eraser import Eraser
from services.members.core.erasing import Erasure
from services.members.core.erasures import ErasureStore
from services.members.core.ledger import entry_of, untaken
from services.members.core.phones import BlindIndex
from services.members.core.store import ConsentLedger
from services.members.recovery.store import LostMember, RecoveryStore
from services.members.settings import MembersSettings
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberErased,
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberMoved,
    MemberRolesChanged,
    MemberSnapshot,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.database import Document
from services.shared.encryption import Vault
from services.shared.messaging import Origin, UnitOfWork, newer
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime

MemberEvent: TypeAlias = (
    MemberJoined
    | MemberUpdated
    | MemberMoved
    | MemberLeft
    | MemberConsentChanged
    | MemberRolesChanged
    | MemberMerged
    | MemberUnmerged
    | MemberSnapshot
)
KINDS: Final = (
    MemberJoined,
    MemberUpdated,
    MemberMoved,
    MemberLeft,
    MemberConsentChanged,
    MemberRolesChanged,
    MemberMerged,
    MemberUnmerged,
    MemberSnapshot,
)
SOURCE: Final = "recovery"
"""The source of a withdrawal in the ledger that is known from the log alone."""


class MemberRebuild:
    def __init__(self, runtime: Runtime) -> None:
        assert isinstance(runtime.settings, MembersSettings)
        self._settings = runtime.settings
        vault = Vault(runtime.client, runtime.database, self._settings.master_keys)
        contacts = Contacts(vault, BlindIndex(self._settings.blind_index_key))
        self._erasures = ErasureStore(runtime.database)
        self._eraser = Eraser(self._erasures, vault, contacts)
        self._store = RecoveryStore(runtime.database)
        self._ledger = ConsentLedger(runtime.database)
        self._outbox = runtime.outbox

    async def apply(self, events: Sequence[Envelope[MemberEvent]], work: UnitOfWork) -> None:
        subjects = [event.subject for event in events]
        if erased := await self._erasures.of_members(subjects, work.session):
            events = [event for event in events if event.subject not in erased]
            subjects = [event.subject for event in events]
        known = await self._store.versions(subjects, work.session)
        lost = await self._store.lost_sequences(subjects, work.session)
        news = newer(events, lambda id_: known.get(id_, lost.get(id_, 0)), work)
        changed = [e for e in news if e.subject in known]
        changes = {e.subject: _changes(e) for e in changed}
        parted = [id_ for id_, fields in changes.items() if fields.get("status") == Status.ACTIVE]
        for id_ in await self._store.phones_taken(parted, work.session):
            changes[id_] |= {"status": Status.LEFT.value, "phone_taken": False}
        await self._store.change(changes, work.session)
        await self._store.mark_contacts_lost(
            [e.subject for e in changed if _changed_contact(e)], work.session
        )
        await self._withdraw([e for e in changed if _is_consent(e, ConsentState.WITHDRAWN)], work)
        await self._store.mark_consents_lost(
            [e.subject for e in changed if _is_consent(e, ConsentState.GIVEN)], work.session
        )
        await self._store.set_terms(
            {
                e.subject: e.data.roles if isinstance(e.data, MemberRolesChanged) else ()
                for e in changed
                if isinstance(e.data, MemberRolesChanged) or _left(e.data)
            },
            work.session,
        )
        unknown = [e for e in news if e.subject not in known]
        await self._store.add_lost(
            [LostMember(e.subject, e.data.unit, e.sequence, left=_left(e.data)) for e in unknown],
            work.session,
        )

    async def _withdraw(self, events: Sequence[Envelope[MemberEvent]], work: UnitOfWork) -> None:
        members = await self._store.members([e.subject for e in events], work.session)
        for event in events:
            assert isinstance(event.data, MemberConsentChanged)
            member = members[event.subject]
            consent = withdrawn(member, event.data.purpose, event.data.channel, SOURCE, event.time)
            if consent is None:
                continue
            after = replace(member, consents=with_consent(member.consents, consent), version=event.sequence)
            taken = await self._ledger.pairs(member.id, work.session)
            await self._ledger.add([*untaken(member, taken), entry_of(after, consent)], work.session)
            await self._store.set_consents(after, work.session)

    async def erase(self, events: Sequence[Envelope[MemberErasureRequested]], work: UnitOfWork) -> None:
        """Apply erasures that were requested after the dump; of others, note that they were asked again."""
        known = await self._erasures.of_members([event.subject for event in events], work.session)
        for event in events:
            data, erasure = event.data, known.get(event.subject)
            again = event.time + timedelta(seconds=self._settings.erasure_again_seconds)
            if erasure is None:
                asked = Erasure(
                    id=data.erasure_id,
                    member_id=data.member_id,
                    unit=data.unit,
                    status=data.status,
                    rule=self._settings.erasure_rule,
                    requested_by=SOURCE,
                    requested_at=event.time,
                    attempt=data.attempt,
                    sequence=event.sequence,
                    next_at=again,
                )
                await self._eraser.erase(asked, work)
            elif event.sequence > erasure.sequence:
                told = replace(erasure, attempt=data.attempt, sequence=event.sequence, next_at=again)
                await self._erasures.save(told, work.session)

    async def end(self, events: Sequence[Envelope[MemberErased]], work: UnitOfWork) -> None:
        """Finish erasures that had ended after the dump."""
        known = await self._erasures.of_members([event.subject for event in events], work.session)
        for event in events:
            if erasure := known.get(event.subject):
                ended = erasing.end(erasure, event.time).state
                await self._erasures.save(replace(ended, sequence=event.sequence), work.session)

    async def finish(self) -> None:
        """Decide about members who were parted from another and whose phone was taken, and publish that the
        lost members left. May be repeated."""

        async def decide(work: UnitOfWork) -> int:
            undecided = await self._store.undecided(work.session)
            taken = await self._store.phones_taken(list(undecided), work.session)
            for member_id, (unit, version) in undecided.items():
                if member_id in taken:
                    work.stage(MemberLeft(member_id=member_id, unit=unit), version + 1, origin)
            await self._store.decide(undecided, taken, work.session)
            return len(undecided)

        async def announce(work: UnitOfWork) -> int:
            lost = await self._store.unannounced(work.session)
            for member in lost:
                event = MemberLeft(member_id=member.member_id, unit=member.unit)
                work.stage(event, member.sequence + 1, origin)
            await self._store.mark_announced([member.member_id for member in lost], work.session)
            return len(lost)

        origin = Origin.here()
        for body in (decide, announce):
            while await self._outbox.transact(body):
                pass

    async def summary(self) -> Sequence[str]:
        members, lost, contacts, consents, taken = await self._store.counts()
        return [
            f"{members} members",
            f"{lost} who joined after the dump are lost (db.lost): the others will hear that they left.",
            f"{contacts} have changed their name or contact since (db.members, contact_lost):"
            " ask them again.",
            f"{consents} have given a consent since (db.members, consent_lost): ask them again.",
            f"{taken} were parted from another member since, but another active member has their phone"
            " (db.members, phone_taken): the others will hear that they left.",
        ]


def plan(runtime: Runtime) -> Plan:
    rebuild = MemberRebuild(runtime)
    return Plan(
        summary=rebuild.summary,
        restores={
            **dict.fromkeys(KINDS, rebuild.apply),
            MemberErasureRequested: rebuild.erase,
            MemberErased: rebuild.end,
        },
        finish=rebuild.finish,
        from_dump=True,
    )


def _changes(event: Envelope[MemberEvent]) -> Document:
    """The fields of a member after the event."""
    data, changes = event.data, {"version": event.sequence, "updated_at": event.time, "unit": event.data.unit}
    if isinstance(data, MemberJoined | MemberUpdated | MemberSnapshot | MemberMerged | MemberUnmerged):
        changes |= {"gender": data.gender, "language": data.language, "platforms": list(data.platforms)}
        if data.own_number:  # given after the dump, and lost with it: whoever had none is known to have one
            changes["reached_by"] = None
        if data.adult is not None:
            changes["minor"] = None if data.adult else True
    if isinstance(data, MemberRolesChanged):
        changes["roles"] = [{"role": held.role, "unit": held.unit} for held in data.roles]
    if isinstance(data, MemberMerged) or (isinstance(data, MemberSnapshot) and data.merged_into):
        into = data.into if isinstance(data, MemberMerged) else data.merged_into
        changes |= {"status": Status.MERGED.value, "merged_into": into, "roles": []}
    elif isinstance(data, MemberUnmerged):
        changes |= {"status": data.status, "merged_into": None, "announced": False}
    elif _left(data):
        changes |= {"status": Status.LEFT.value, "roles": []}
    return changes


def _left(data: MemberEvent) -> bool:
    """Whether the others know that the member is no longer one."""
    if isinstance(data, MemberSnapshot | MemberUnmerged):
        return data.status == Status.LEFT.value
    return isinstance(data, MemberLeft | MemberMerged)


def _changed_contact(event: Envelope[MemberEvent]) -> bool:
    return isinstance(event.data, MemberUpdated) and event.data.contact_changed


def _is_consent(event: Envelope[MemberEvent], state: ConsentState) -> bool:
    return isinstance(event.data, MemberConsentChanged) and event.data.state == state
