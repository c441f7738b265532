"""Registering members: concurrent requests share one transaction, and each gets its own outcome.

A batch is first written as if nobody in it had registered before, which is nearly always so: the unique indexes say when it is not.
Then the transaction has been aborted, and the next looks up who is known, one query for the whole batch, so that a phone already
taken fails its own request and not its neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias

from pymongo.errors import BulkWriteError

from services.members.contacts import Contacts
from services.members.domain import Application, Contact, Member, is_plausible_birth_year, join
from services.members.metrics import MembersMetrics
from services.members.refusals import (
    implausible_birth_year,
    phone_already_registered,
    unit_not_found,
    unknown_inviter,
)
from services.members.store import Answers, MemberStore, document_of, record_of
from services.shared.clock import Clock
from services.shared.contracts.members import MemberJoined
from services.shared.database import Document
from services.shared.faults import FaultFamily, classify
from services.shared.http.auth import Identity
from services.shared.http.idempotency import Answer, IdempotentRequest, check, to_document
from services.shared.ids import new_id
from services.shared.messaging import GroupCommit, MessagingMetrics, Origin, Outbox, UnitOfWork

_CREATED: Final = Answer(201, {}, b"")
"""What an idempotency row says beside the member: the answer is written anew from the member as first stored."""


@dataclass(frozen=True, slots=True)
class Registered:
    member: Member
    contact: Contact
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Submission:
    application: Application
    origin: Origin
    request: IdempotentRequest | None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A member who will exist if nothing speaks against it."""

    submission: _Submission
    member: Member
    event: MemberJoined
    document: Document
    answer: Document | None


@dataclass(frozen=True, slots=True)
class _Accepted:
    draft: _Draft


@dataclass(frozen=True, slots=True)
class _Answered:
    """The Idempotency-Key was used before; `row` tells for what."""

    row: Document


@dataclass(frozen=True, slots=True)
class _PhoneTaken:
    member_id: str
    unit: str


class _UnknownInviter:
    pass


class _KnownError(Exception):
    """Not all of the batch can be accepted, so who is known must be looked up."""


_Outcome: TypeAlias = _Accepted | _Answered | _PhoneTaken | _UnknownInviter


class Registrar:
    def __init__(
        self,
        outbox: Outbox,
        store: MemberStore,
        answers: Answers,
        contacts: Contacts,
        clock: Clock,
        metrics: MembersMetrics,
        eventkit: MessagingMetrics,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._answers = answers
        self._contacts = contacts
        self._clock = clock
        self._metrics = metrics
        self._registered = metrics.registrations.labels("registered")
        self._group: GroupCommit[_Submission, _Outcome] = GroupCommit(self._commit, eventkit, writers=2)

    async def register(
        self, caller: Identity, application: Application, origin: Origin, request: IdempotentRequest | None
    ) -> Registered:
        """The new member, or the one this same request made before; durable with its event on return.

        Raises: `Problem` 404 (unit), 409 (phone), 422 (birth year, inviter, key used for another body).
        """
        if not caller.can_access(application.unit):
            raise unit_not_found()
        year = application.birth_year
        if year is not None and not is_plausible_birth_year(year, self._clock.now()):
            raise implausible_birth_year()
        if request is not None:
            request = replace(request, fingerprint=self._contacts.disguise(request.fingerprint))
        outcome = await self._group.submit(_Submission(application, origin, request))
        return await self._answer(caller, request, outcome)

    async def close(self) -> None:
        """Finish what was accepted."""
        await self._group.close()

    async def _answer(
        self, caller: Identity, request: IdempotentRequest | None, outcome: _Outcome
    ) -> Registered:
        match outcome:
            case _Accepted(draft):
                self._registered.inc()
                return Registered(draft.member, draft.submission.application.contact)
            case _Answered(row):
                return await self._replay(request, row)
            case _PhoneTaken(member_id, unit):
                self._metrics.registrations.labels("phone_taken").inc()
                visible = caller.has_scope("members:read") and caller.can_access(unit)
                raise phone_already_registered(member_id if visible else None)
            case _UnknownInviter():
                self._metrics.registrations.labels("unknown_inviter").inc()
                raise unknown_inviter()

    async def _replay(self, request: IdempotentRequest | None, row: Document) -> Registered:
        same = request is not None and bytes(row["fingerprint"]) == request.fingerprint
        self._metrics.registrations.labels("replayed" if same else "key_reused").inc()
        if request is not None:
            check(request, row)
        record = record_of(row["member"])
        [contact] = await self._contacts.open([record])
        return Registered(record.member, contact, replayed=True)

    async def _commit(self, submissions: Sequence[_Submission]) -> list[_Outcome]:
        drafts = await self._draft(submissions)
        try:
            return await self._outbox.transact(partial(self._write, drafts, known=False))
        except (_KnownError, BulkWriteError) as error:
            if isinstance(error, BulkWriteError) and classify(error) is not FaultFamily.RACE:
                raise
        return await self._outbox.transact(partial(self._write, drafts, known=True))

    async def _write(self, drafts: Sequence[_Draft], work: UnitOfWork, *, known: bool) -> list[_Outcome]:
        """`known`: somebody may be, so look up who. Raises without it, when somebody is after all: `BulkWriteError` (duplicate key), or
        `_KnownError` where the answer depends on it."""
        outcomes = await self._judge(drafts, work, known=known)
        accepted = [outcome.draft for outcome in outcomes if isinstance(outcome, _Accepted)]
        if not known and len(accepted) < len(drafts):
            raise _KnownError
        if accepted:
            await self._store.insert([draft.document for draft in accepted], work.session)
            await self._answers.insert((draft.answer for draft in accepted), work.session)
        for draft in accepted:
            work.stage(draft.event, draft.member.version, draft.submission.origin)
        return outcomes

    async def _draft(self, submissions: Sequence[_Submission]) -> list[_Draft]:
        # Sealed here and not in the transaction, which may run several times.
        ids = [new_id() for _ in submissions]
        sealed = await self._contacts.seal(
            (id_, s.application.contact) for id_, s in zip(ids, submissions, strict=True)
        )
        now = self._clock.now()
        drafts = []
        for id_, submission, contact in zip(ids, submissions, sealed, strict=True):
            member, event = join(submission.application, id_, now)
            document = document_of(member)
            document["contact"] = contact
            document["phone_index"] = self._contacts.phone_index(submission.application.contact)
            answer = _answer_row(submission.request, document, now)
            drafts.append(_Draft(submission, member, event, document, answer))
        return drafts

    async def _judge(self, drafts: Sequence[_Draft], work: UnitOfWork, *, known: bool) -> list[_Outcome]:
        """Each draft's outcome; what one is granted, the drafts after it find taken."""
        session = work.session
        answered: dict[bytes, Document] = {}
        taken: dict[str, tuple[str, str]] = {}
        if known:
            answered = await self._answers.find((d.answer["_id"] for d in drafts if d.answer), session)
            taken = await self._store.active_by_phone((d.document["phone_index"] for d in drafts), session)
        inviters = await self._store.known(_inviters(drafts), session)
        outcomes: list[_Outcome] = []
        for draft in drafts:
            phone, inviter = draft.document["phone_index"], draft.member.inviter_id
            if draft.answer and (earlier := answered.get(draft.answer["_id"])):
                outcomes.append(_Answered(earlier))
            elif phone in taken:
                outcomes.append(_PhoneTaken(*taken[phone]))
            elif inviter is not None and inviter not in inviters:
                outcomes.append(_UnknownInviter())
            else:
                outcomes.append(_Accepted(draft))
                taken[phone] = (draft.member.id, draft.member.unit)
                if draft.answer:
                    answered[draft.answer["_id"]] = draft.answer
        return outcomes


def _inviters(drafts: Iterable[_Draft]) -> set[str]:
    return {draft.member.inviter_id for draft in drafts if draft.member.inviter_id is not None}


def _answer_row(request: IdempotentRequest | None, member: Document, now: datetime) -> Document | None:
    return {**to_document(request, _CREATED, now), "member": member} if request else None
