"""Merging: one transaction changes both members, so that of merges that meet, the second sees the first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from services.members.core.changing import Profile
from services.members.core.core import Core
from services.members.core.domain import Consent, Member, Status
from services.members.core.errors import (
    changed_meanwhile,
    merge_expired,
    merged_on,
    not_active,
    not_merged_now,
    same_member,
    too_many_roles,
)
from services.members.core.ledger import entry_of, untaken
from services.members.core.store import DuplicateError, Record, SealedContact
from services.members.core.term_store import TermStore
from services.members.core.terms import RoleChange, RoleRecord, Term, record_of, with_roles
from services.members.merges import domain
from services.members.merges.domain import Choice, Field, Side, Trace, Values
from services.members.merges.records import Merge, trace_from_json, trace_to_json
from services.members.merges.store import MergeStore
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import MAX_ROLES, MemberConsentChanged
from services.shared.errors import ConflictError, NotFoundError, StaleVersionError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork


@dataclass(frozen=True, slots=True)
class Preview:
    """The effect of a merge. `consents` are those that would change; `roles` those that would come over."""

    survivor: Member
    ours: Values
    theirs: Values
    surviving: Values
    consents: Sequence[Consent]
    roles: Sequence[Term]


class _Pair(NamedTuple):
    survivor: Record
    other: Record


class _Roles(NamedTuple):
    """Terms of both: those of the survivor, those that come over, and those of roles that both have."""

    ours: list[Term]
    moved: list[Term]
    dropped: list[Term]


class Merges:
    def __init__(self, core: Core, store: MergeStore, terms: TermStore) -> None:
        self._core = core
        self._outbox = core.runtime.outbox
        self._clock = core.runtime.server_clock
        self._store = store
        self._terms = terms

    async def preview(self, caller: Identity, survivor: str, other: str, choice: Choice) -> Preview:
        """The effect of merging `other` into `survivor`; the contacts of both are recorded as read.

        Raises: as `merge`.
        """
        pair = await self._pair(caller, survivor, other)
        _check(pair)
        contacts = await self._core.reader.open_contacts(caller, pair, "merge")
        ours, theirs = (Profile(record.member, c) for record, c in zip(pair, contacts, strict=True))
        before, of_other = domain.values(ours), domain.values(theirs)
        now = self._clock.now()
        roles = await self._roles(pair, now)
        return Preview(
            survivor=ours.member,
            ours=before,
            theirs=of_other,
            surviving=domain.surviving(before, of_other, choice, (survivor, other)),
            consents=domain.taken_over(ours.member, theirs.member, now),
            roles=roles.moved,
        )

    async def merge(
        self,
        caller: Identity,
        survivor: str,
        other: str,
        choice: Choice,
        version: int | None,
        origin: Origin,
    ) -> tuple[Merge, Member]:
        """The merge of `other` into `survivor`, and the survivor after it. The same merge again changes
        nothing. `version` is the survivor's.

        Raises: `InvalidError` (with oneself), `NotFoundError`, `StaleVersionError`, `TooManyError` (taken
        phones), `ConflictError` (one of them merged already; the survivor has left; too many roles; the phone
        of somebody who left is taken).
        """
        if choice.get(Field.PHONE) is Side.OTHER:
            self._core.taken_phones.check_may_ask(caller)
        wanted: set[str] = set()

        async def write(work: UnitOfWork) -> tuple[Merge, Member]:
            pair = await self._pair(caller, survivor, other, work)
            if pair.other.member.merged_into == survivor and pair.other.member.status == Status.MERGED:
                done = await self._store.newest(survivor, other, work.session)
                if done is not None:
                    return done, pair.survivor.member
            if version is not None and version != pair.survivor.member.version:
                raise StaleVersionError
            _check(pair)
            return await self._merge(caller, pair, choice, wanted, work, origin)

        try:
            return await self._outbox.transact(write)
        except DuplicateError:
            raise await self._phone_taken(caller, wanted, (survivor, other)) from None

    async def _merge(
        self,
        caller: Identity,
        pair: _Pair,
        choice: Choice,
        wanted: set[str],
        work: UnitOfWork,
        origin: Origin,
    ) -> tuple[Merge, Member]:
        now = self._clock.now()
        ours, theirs = await self._profiles(pair)
        merge = Merge(id=new_id(), survivor=ours.member.id, other=theirs.member.id, by=caller.subject, at=now)
        if not ours.contact.phone:  # takes the other's, whatever was chosen
            self._core.taken_phones.check_may_ask(caller)
        before, of_other = domain.values(ours), domain.values(theirs)
        after = domain.surviving(before, of_other, choice, (merge.survivor, merge.other))
        wanted.add(self._core.contacts.phone_index(domain.contact_of(after)))
        consents = domain.taken_over(ours.member, theirs.member, now)
        roles = await self._roles(pair, now, work)
        await self._move(roles, merge, work, now)
        # The other first: it may have the phone that the survivor takes.
        await self._save(theirs.member, domain.merge_into(theirs.member, ours.member.id, now), work, origin)
        step = domain.change(ours, domain.with_values(ours, after), consents, now)
        evidence = [_proof_in(merge.other)] * len(consents)
        await self._record(ours.member, step, consents, evidence, caller.subject, work)
        step = _then(step, with_roles(step.state, [*roles.ours, *roles.moved], now))
        sealed = await self._sealed(ours.member.id, before, after)
        await self._save(ours.member, step, work, origin, sealed)
        trace = Trace(
            pair=(merge.survivor, merge.other),
            choice=choice,
            theirs=of_other,
            before=before,
            after=after,
            given=tuple((c.purpose, c.channel) for c in consents if c.state == "given"),
            moved=tuple(term.id for term in roles.moved),
            dropped=tuple(roles.dropped),
            status=theirs.member.status,
        )
        content = await self._core.vault.seal_bytes(merge.id, trace_to_json(trace))
        await self._store.add(merge, content, merge.undo_until, work.session)
        work.after_commit(self._core.metrics.merges.labels("merged").inc)
        return merge, step.state

    async def undo(self, caller: Identity, merge_id: str, origin: Origin) -> Merge:
        """The other member stands for itself again, with the consents of its own ledger, and the survivor is
        what it would be without it. What was changed of the survivor since stays, and so does every
        withdrawal. Undoing again changes nothing.

        Raises: `NotFoundError`, `TooManyError` (taken phones), `ConflictError` (too late; the survivor was
        merged on; a phone that would come back is taken).
        """
        self._core.taken_phones.check_may_ask(caller)
        wanted: set[str] = set()
        own: set[str] = set()

        async def write(work: UnitOfWork) -> Merge:
            merge = await self._store.find(merge_id, work.session)
            if merge is None:
                raise NotFoundError
            pair = await self._pair(caller, merge.survivor, merge.other, work)
            if merge.undone_at is not None:
                return merge
            own.update((merge.survivor, merge.other))
            return await self._undo(caller, merge, pair, wanted, work, origin)

        try:
            return await self._outbox.transact(write)
        except DuplicateError:
            raise await self._phone_taken(caller, wanted, own) from None

    async def _undo(
        self, caller: Identity, merge: Merge, pair: _Pair, wanted: set[str], work: UnitOfWork, origin: Origin
    ) -> Merge:
        now = self._clock.now()
        survivor, other = pair.survivor.member, pair.other.member
        if other.status != Status.MERGED or other.merged_into != survivor.id:
            raise not_merged_now()
        if survivor.status == Status.MERGED:
            raise merged_on()
        traces = await self._traces(survivor.id, work)
        trace = traces.get(merge.id)
        if trace is None or now > merge.undo_until:
            raise merge_expired()
        [contact] = await self._core.contacts.open([pair.other])
        wanted.add(self._core.contacts.phone_index(contact))
        mine = await self._give_back(merge, trace, other, work, now)
        if survivor.status == Status.ACTIVE:
            back = [term for term in mine if term.id in trace.moved]
            standing = await self._revert(caller, merge, pair, traces, back, wanted, work, origin, now)
            await self._set_traces({id_: new for id_, new in standing.items() if new != traces[id_]}, work)
        step = domain.part(other, trace.status, now)
        await self._save(other, _then(step, with_roles(step.state, mine, now)), work, origin)
        undone = replace(merge, undone_at=now, undone_by=caller.subject)
        await self._store.undo(undone, work.session)
        work.after_commit(self._core.metrics.merges.labels("undone").inc)
        return undone

    async def _revert(
        self,
        caller: Identity,
        merge: Merge,
        pair: _Pair,
        traces: Mapping[str, Trace],
        roles: Sequence[Term],
        wanted: set[str],
        work: UnitOfWork,
        origin: Origin,
        now: datetime,
    ) -> dict[str, Trace]:
        """The survivor without what it has from the other, to whom these `roles` go back. Answers the traces
        of the other merges, which may stand for what goes."""
        ours, _ = await self._profiles(pair)
        before = domain.values(ours)
        after, standing = domain.without(traces, merge.id, before)
        wanted.add(self._core.contacts.phone_index(domain.contact_of(after)))
        back = domain.given_back(ours.member, traces[merge.id], await self._others(standing, work), now)
        consents = [each.consent for each in back]
        evidence = [_proof_in(each.other) if each.other else f"merge:{merge.id}" for each in back]
        step = domain.change(ours, domain.with_values(ours, after), consents, now)
        await self._record(ours.member, step, consents, evidence, caller.subject, work)
        standing = await self._stand_in(merge, roles, domain.giving(standing, back), work, now)
        terms = await self._terms.of(ours.member.id, work.session)
        step = _then(step, with_roles(step.state, terms, now))
        await self._save(ours.member, step, work, origin, await self._sealed(ours.member.id, before, after))
        return standing

    async def _traces(self, survivor: str, work: UnitOfWork) -> dict[str, Trace]:
        sealed = await self._store.traces(survivor, work.session)
        return {
            id_: trace_from_json(await self._core.vault.open_bytes(id_, content))
            for id_, content in sealed.items()
        }

    async def _set_traces(self, traces: Mapping[str, Trace], work: UnitOfWork) -> None:
        for merge_id, trace in traces.items():
            content = await self._core.vault.seal_bytes(merge_id, trace_to_json(trace))
            await self._store.set_trace(merge_id, content, work.session)

    async def _others(self, traces: Mapping[str, Trace], work: UnitOfWork) -> list[tuple[str, Trace, Member]]:
        """The traces, each with who was merged."""
        found = []
        for merge_id, trace in traces.items():
            if record := await self._core.store.find(trace.pair[1], work.session):
                found.append((merge_id, trace, record.member))
        return found

    async def _pair(
        self, caller: Identity, survivor: str, other: str, work: UnitOfWork | None = None
    ) -> _Pair:
        """Raises: `InvalidError` (with oneself), `NotFoundError`."""
        if survivor == other:
            raise same_member()
        found = []
        for member_id in (survivor, other):
            record = await self._core.store.find(member_id, work.session if work else None)
            if record is None:
                raise NotFoundError
            caller.check_access(record.member.unit)
            found.append(record)
        return _Pair(*found)

    async def _profiles(self, pair: _Pair) -> tuple[Profile, Profile]:
        ours, theirs = await self._core.contacts.open(pair)
        return Profile(pair.survivor.member, ours), Profile(pair.other.member, theirs)

    async def _sealed(self, member_id: str, before: Values, after: Values) -> SealedContact | None:
        """The survivor's contact, if it changes."""
        contact, old = domain.contact_of(after), domain.contact_of(before)
        if contact == old:
            return None
        [sealed] = await self._core.contacts.seal([(member_id, contact)])
        return sealed

    async def _save(
        self,
        before: Member,
        step: Step[Member],
        work: UnitOfWork,
        origin: Origin,
        contact: SealedContact | None = None,
    ) -> None:
        versions = step.state.version - before.version
        saved = await self._core.store.save(step.state, work.session, contact, versions=versions)
        assert saved, "what the transaction has read, it can write or must run again"
        work.stage_all(step.events, origin)

    async def _record(
        self,
        before: Member,
        step: Step[Member],
        consents: Sequence[Consent],
        evidence: Sequence[str],
        actor: str,
        work: UnitOfWork,
    ) -> None:
        """Add these changes of the member's consents to their ledger, each with its evidence."""
        if not consents:
            return
        versions = [numbered.sequence for numbered in step.events if _is_consent(numbered)]
        taken = await self._core.ledger.pairs(before.id, work.session)
        entries = [
            entry_of(replace(step.state, version=version), consent, actor=actor, evidence=proof)
            for version, consent, proof in zip(versions, consents, evidence, strict=True)
        ]
        await self._core.ledger.add([*untaken(before, taken), *entries], work.session)
        for consent in consents:
            work.after_commit(self._core.metrics.consents.labels(consent.purpose, consent.state).inc)

    async def _roles(self, pair: _Pair, now: datetime, work: UnitOfWork | None = None) -> _Roles:
        """Raises: `ConflictError` when the survivor would have too many."""
        session = work.session if work else None
        ours = await self._terms.of(pair.survivor.member.id, session)
        if pair.other.member.status != Status.ACTIVE:
            return _Roles(ours, [], [])
        held = {(term.role, term.unit) for term in ours if not term.ended(now)}
        moved: list[Term] = []
        dropped: list[Term] = []
        for term in await self._terms.of(pair.other.member.id, session):
            if not term.ended(now):
                (dropped if (term.role, term.unit) in held else moved).append(term)
        if len(ours) + len(moved) > MAX_ROLES:
            raise too_many_roles(MAX_ROLES)
        return _Roles(ours, moved, dropped)

    async def _move(self, roles: _Roles, merge: Merge, work: UnitOfWork, now: datetime) -> None:
        ended = [replace(term, until=now) for term in (*roles.moved, *roles.dropped)]
        records = [record_of(term, RoleChange.TAKEN, now, merge.by) for term in ended]
        records += [await self._hand_over(term, merge.survivor, merge.by, work, now) for term in roles.moved]
        for term in roles.dropped:
            await self._terms.remove(term, work.session)
        await self._terms.record(records, work.session)

    async def _hand_over(
        self, term: Term, member_id: str, actor: str, work: UnitOfWork, now: datetime
    ) -> RoleRecord:
        moved = replace(term, member_id=member_id)
        await self._terms.save(moved, now, work.session)
        return record_of(moved, RoleChange.GIVEN, now, actor)

    async def _give_back(
        self, merge: Merge, trace: Trace, other: Member, work: UnitOfWork, now: datetime
    ) -> list[Term]:
        """The other's terms again: those that the survivor has from them still, and those dropped."""
        theirs = await self._terms.of(merge.survivor, work.session)
        moved = [term for term in theirs if term.id in trace.moved and not term.ended(now)]
        back = [*moved, *(term for term in trace.dropped if not term.ended(now))]
        records = [record_of(replace(term, until=now), RoleChange.TAKEN, now, merge.by) for term in moved]
        records += [await self._hand_over(term, other.id, merge.by, work, now) for term in back]
        await self._terms.record(records, work.session)
        return [replace(term, member_id=other.id) for term in back]

    async def _stand_in(
        self,
        merge: Merge,
        back: Sequence[Term],
        standing: Mapping[str, Trace],
        work: UnitOfWork,
        now: datetime,
    ) -> dict[str, Trace]:
        """The survivor keeps a role that goes `back` if another one who is merged into it had it too: by that
        one's term. Answers the traces with that."""
        found = domain.roles_of_others(back, standing, now)
        records = [await self._hand_over(term, merge.survivor, merge.by, work, now) for term in found.terms]
        await self._terms.record(records, work.session)
        return found.traces

    async def _phone_taken(
        self, caller: Identity, wanted: Iterable[str], own: Collection[str]
    ) -> ConflictError:
        """The error for one of the phones `wanted` (fingerprints) that a member has who is not in `own`."""
        for member_id, unit in (await self._core.store.active_by_phone(wanted)).values():
            if member_id not in own:
                return await self._core.taken_phones.refuse(caller, member_id, unit, "phone_of_merge")
        return changed_meanwhile()


def _check(pair: _Pair) -> None:
    """Raises: `ConflictError`."""
    survivor, other = (record.member for record in pair)
    if survivor.status != Status.ACTIVE:
        raise not_active(survivor)
    if other.status not in (Status.ACTIVE, Status.LEFT):
        raise not_active(other)


def _then(step: Step[Member], more: Step[Member]) -> Step[Member]:
    return Step(more.state, (*step.events, *more.events))


def _proof_in(member_id: str) -> str:
    """The evidence of a consent from a merge: the ledger of that member has the proof."""
    return f"member:{member_id}"


def _is_consent(numbered: Numbered) -> bool:
    return isinstance(numbered.event, MemberConsentChanged)
