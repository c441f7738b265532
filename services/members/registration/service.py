"""Registering members: concurrent requests share one transaction, and each gets its own outcome.

A batch is first written as if none of its people were known, which is nearly always true: unique indexes say
when it is not. Then that transaction is aborted, and the next one looks up who is known with one query for
the whole batch, so that a phone already taken fails its own request and not its neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from services.members.core.core import Core
from services.members.core.domain import Contact, Member, is_plausible_birth_year, may_be_minor
from services.members.core.errors import (
    implausible_birth_year,
    is_minor,
    is_no_minor,
    unit_not_found,
    unknown_inviter,
    unknown_notice,
    unreachable,
)
from services.members.core.joining import Application, join
from services.members.core.ledger import LedgerEntry, entry_of
from services.members.core.store import DuplicateError, document_of, record_of
from services.members.registration.store import AnswerStore, answer_of
from services.shared.contracts.base import Step
from services.shared.contracts.vocabulary import Purpose
from services.shared.database import Document
from services.shared.database.idempotency import IdempotentRequest, earlier_answer
from services.shared.errors import KeyReusedError, TooManyError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import GroupCommit, Origin, UnitOfWork


@dataclass(frozen=True, slots=True)
class Registered:
    member: Member
    contact: Contact
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Guardian:
    """The proof of a guardian's consents: `digests` of the notices by version and language, and who recorded
    it."""

    evidence: str
    digests: Mapping[tuple[str, str], str]
    actor: str

    def entries(self, member: Member) -> list[LedgerEntry]:
        """The entries of the consents with which the member was registered."""
        return [
            entry_of(
                member,
                consent,
                notice_sha256=self.digests[consent.notice, consent.language],
                actor=self.actor,
                evidence=self.evidence,
            )
            for consent in member.consents
        ]


@dataclass(frozen=True, slots=True)
class _Submission:
    caller: Identity
    application: Application
    origin: Origin
    request: IdempotentRequest | None
    guardian: _Guardian | None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A member to be created if nothing speaks against it; `document` and `answer` are the rows to insert."""

    submission: _Submission
    step: Step[Member]
    document: Document
    answer: Document | None

    @property
    def proven(self) -> list[LedgerEntry]:
        guardian = self.submission.guardian
        return guardian.entries(self.step.state) if guardian else []


@dataclass(frozen=True, slots=True)
class _Accepted:
    draft: _Draft


@dataclass(frozen=True, slots=True)
class _Answered:
    """The idempotency key of `request` was used before; `row` tells for what."""

    request: IdempotentRequest
    row: Document


@dataclass(frozen=True, slots=True)
class _PhoneTaken:
    member_id: str
    unit: str


class _UnknownInviter:
    pass


class _Unreachable:
    """The member of `reached_by` is none of the caller's who has a number."""


RegistrationOutcome: TypeAlias = _Accepted | _Answered | _PhoneTaken | _UnknownInviter | _Unreachable


class _NotAllAcceptedError(Exception):
    """Somebody in the batch cannot be accepted, so the known must be looked up."""


class Registrar:
    def __init__(self, core: Core, answers: AnswerStore) -> None:
        self._outbox = core.runtime.outbox
        self._units = core.units
        self._clock = core.runtime.server_clock
        self._store = core.store
        self._contacts = core.contacts
        self._taken_phones = core.taken_phones
        self._ledger = core.ledger
        self._notices = core.notices
        self._minors_allowed = core.minors_allowed
        self._metrics = core.metrics
        self._answers = answers
        self._registered = core.metrics.registrations.labels("registered")
        self._group: GroupCommit[_Submission, RegistrationOutcome] = GroupCommit(
            self._commit, core.runtime.metrics, writers=2
        )

    async def register(
        self, caller: Identity, application: Application, origin: Origin, request: IdempotentRequest | None
    ) -> Registered:
        """The new member, or the one that this same request made before; durable with its event on return.

        Raises, in this order: `InvalidError` (unit was split), `NotFoundError` (unit), `TooManyError` (taken
        phones), `InvalidError` (birth year, guardian), `KeyReusedError`, `InvalidError` (inviter, reached
        by), `ConflictError` (phone).
        """
        application = replace(application, unit=self._units.check(application.unit))
        if not caller.can_access(application.unit):
            raise unit_not_found()
        if request is not None:
            request = replace(request, fingerprint=self._contacts.keyed_digest(request.fingerprint))
        try:
            self._taken_phones.check_may_ask(caller)
        except TooManyError:  # what was answered before is answered again: that tells nothing new
            if request is None or (row := await self._answers.get(request.id)) is None:
                raise
            return await self._replay(request, row)
        guardian = await self._guardian(caller, application)
        outcome = await self._group.submit(_Submission(caller, application, origin, request, guardian))
        match outcome:
            case _Accepted(draft):
                self._registered.inc()
                return Registered(draft.step.state, application.contact)
            case _Answered(repeated, row):
                return await self._replay(repeated, row)
            case _PhoneTaken(member_id, unit):
                self._metrics.registrations.labels("phone_taken").inc()
                raise await self._taken_phones.refuse(caller, member_id, unit, "phone_of_registration")
            case _UnknownInviter():
                self._metrics.registrations.labels("unknown_inviter").inc()
                raise unknown_inviter()
            case _Unreachable():
                self._metrics.registrations.labels("unreachable").inc()
                raise unreachable()

    async def close(self) -> None:
        """Finish what was accepted."""
        await self._group.close()

    async def _guardian(self, caller: Identity, application: Application) -> _Guardian | None:
        """None for somebody who needs no guardian.

        Raises: `InvalidError`.
        """
        year, evidence, now = application.birth_year, application.guardian_evidence, self._clock.now()
        if year is not None and not is_plausible_birth_year(year, now):
            raise implausible_birth_year()
        if year is None or not may_be_minor(year, now):
            if evidence is not None:
                raise is_no_minor()
            return None
        agreed = Purpose.MEMBERSHIP in {purpose for purpose, *_ in application.consents}
        if not self._minors_allowed or evidence is None or not agreed:
            raise is_minor()
        named = [(notice, language) for _, _, notice, language in application.consents]
        found = {(n.version, n.language): n.sha256 for n in await self._notices.find_many(set(named))}
        for n, each in enumerate(named):
            if each not in found:
                raise unknown_notice(pointer=f"/consents/{n}/notice")
        return _Guardian(evidence, found, caller.subject)

    async def _replay(self, request: IdempotentRequest, row: Document) -> Registered:
        try:
            earlier_answer(request, row)
        except KeyReusedError:
            self._metrics.registrations.labels("key_reused").inc()
            raise
        self._metrics.registrations.labels("replayed").inc()
        record = record_of(row["member"])
        [contact] = await self._contacts.open([record])
        return Registered(record.member, contact, replayed=True)

    async def _commit(self, submissions: Sequence[_Submission]) -> list[RegistrationOutcome]:
        drafts = await self._draft(submissions)
        try:
            return await self._outbox.transact(partial(self._write, drafts, known=False))
        except (DuplicateError, _NotAllAcceptedError):
            return await self._outbox.transact(partial(self._write, drafts, known=True))

    async def _write(
        self, drafts: Sequence[_Draft], work: UnitOfWork, *, known: bool
    ) -> list[RegistrationOutcome]:
        """Insert the drafts that can be accepted. `known`: some people may be known, so look up who.

        Raises: `DuplicateError` or `_NotAllAcceptedError` when that look-up is needed and was not made.
        """
        outcomes = await self._decide(drafts, work, known=known)
        accepted = [outcome.draft for outcome in outcomes if isinstance(outcome, _Accepted)]
        if not known and len(accepted) < len(drafts):
            raise _NotAllAcceptedError
        if accepted:
            await self._store.insert([draft.document for draft in accepted], work.session)
            await self._answers.insert((draft.answer for draft in accepted), work.session)
            await self._ledger.add([each for draft in accepted for each in draft.proven], work.session)
        for draft in accepted:
            work.stage_all(draft.step.events, draft.submission.origin)
        return outcomes

    async def _draft(self, submissions: Sequence[_Submission]) -> list[_Draft]:
        # Sealed here and not in the transaction, which may run several times.
        contacts = [(new_id(), submission.application.contact) for submission in submissions]
        sealed = await self._contacts.seal(contacts)
        now = self._clock.now()
        drafts = []
        for (id_, _), submission, contact in zip(contacts, submissions, sealed, strict=True):
            step = join(submission.application, id_, now)
            document = document_of(step.state, contact)
            answer = answer_of(submission.request, document, now)
            drafts.append(_Draft(submission, step, document, answer))
        return drafts

    async def _decide(
        self, drafts: Sequence[_Draft], work: UnitOfWork, *, known: bool
    ) -> list[RegistrationOutcome]:
        """The outcome of each draft; a phone or key that one is granted is taken for the drafts after it."""
        session = work.session
        answered: dict[bytes, Document] = {}
        taken: dict[str, tuple[str, str]] = {}
        if known:
            answered = await self._answers.find(_request_ids(drafts), session)
            taken = await self._store.active_by_phone((d.document["phone_index"] for d in drafts), session)
        inviters = await self._store.existing(_inviters(drafts), session)
        reaching = await self._store.with_number(_reaching(drafts), session)
        outcomes: list[RegistrationOutcome] = []
        for draft in drafts:
            member, phone = draft.step.state, draft.document["phone_index"]
            request = draft.submission.request
            if request and (earlier := answered.get(request.id)):
                outcomes.append(_Answered(request, earlier))
            elif member.inviter_id is not None and member.inviter_id not in inviters:
                # Before the phone: a request that can never succeed tells nothing of it.
                outcomes.append(_UnknownInviter())
            elif member.reached_by is not None and not _is_reachable(draft, reaching):
                outcomes.append(_Unreachable())
            elif phone in taken:
                outcomes.append(_PhoneTaken(*taken[phone]))
            else:
                outcomes.append(_Accepted(draft))
                taken[phone] = (member.id, member.unit)
                if request and draft.answer:
                    answered[request.id] = draft.answer
        return outcomes


def _request_ids(drafts: Iterable[_Draft]) -> list[bytes]:
    return [request.id for draft in drafts if (request := draft.submission.request)]


def _inviters(drafts: Iterable[_Draft]) -> set[str]:
    return {inviter for draft in drafts if (inviter := draft.step.state.inviter_id) is not None}


def _reaching(drafts: Iterable[_Draft]) -> set[str]:
    return {id_ for draft in drafts if (id_ := draft.step.state.reached_by) is not None}


def _is_reachable(draft: _Draft, reaching: Mapping[str, str]) -> bool:
    unit = reaching.get(draft.step.state.reached_by or "")
    return unit is not None and draft.submission.caller.can_access(unit)
