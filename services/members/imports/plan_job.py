"""Making the plan: a job that reads the file slice by slice, and compares each row with who is known.

A step is one page: the rows that would be applied, each bound to the version of what it was compared with,
and the rows that are refused, with the reason. It writes no member.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from services.members.core.core import Core
from services.members.core.domain import Contact, Member, Status, is_plausible_birth_year, may_be_minor
from services.members.core.erasing import Erasure
from services.members.core.store import Record
from services.members.imports.announcing import Announcing, is_welcomed
from services.members.imports.cells import CONSENT_BLANK, Draft, RefusedError, draft
from services.members.imports.domain import (
    CHANGED,
    DUPLICATE,
    MAX_DISTRICTS,
    NEW,
    OUTCOMES,
    REFUSED,
    UNCHANGED,
    PlannedRow,
    RefusedRow,
    Terms,
    before,
    changed_fields,
    district,
)
from services.members.imports.pages import PLAN as PLAN_FIELD
from services.members.imports.pages import REFUSED as REFUSED_FIELD
from services.members.imports.pages import Pages
from services.members.imports.reading import SLICE_BYTES, Form, Place, Row, Slice, read_slice
from services.members.imports.records import form_from, terms_from
from services.members.imports.store import ImportStore, page_id
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import UnitOfWork

KIND: Final = "member_import_plan"


class _Read(NamedTuple):
    """A row with what was made of it: a draft, or why there is none. `phones` are the fingerprints of its
    numbers, and `dependent` is that of a new person's name and of who reaches them."""

    row: Row
    draft: Draft | None
    reason: str | None
    phones: tuple[str, ...] = ()
    dependent: str | None = None


class _Known(NamedTuple):
    """The members that a slice's rows may be about."""

    by_id: Mapping[str, Record]
    by_phone: Mapping[str, Record]
    contacts: Mapping[str, Contact]
    left: set[str]
    """Phones of members who left."""
    merged: Mapping[str, str]
    """By the phone of a member who was merged, the id of who stands for them."""
    inviters: set[str]
    reaching: Mapping[str, str]
    """The units of the members who have a number and are named as `reached_by`."""
    dependents: Mapping[str, Record]
    """By `dependent`, the members whom they reach."""
    erased: Mapping[str, Erasure]
    """By member id."""
    sealed: set[str]
    """Phones of people who were erased and whose data are still sealed."""


class _Outcome(NamedTuple):
    """`reason` is why nothing is to be done, `row` what is."""

    word: str
    reason: str | None = None
    row: PlannedRow | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    """The outcomes of one slice. `seen` has the line of each phone and member named, `counts` what is added
    to the import's counts."""

    seen: dict[str, int]
    planned: list[PlannedRow]
    refused: list[RefusedRow]
    counts: Counter[str]
    districts: set[str]

    def add(self, read: _Read, outcome: _Outcome, where: str) -> None:
        word, reason, row = outcome
        if row is not None:
            self.planned.append(row)
            self.counts.update(f"fields_changed.{name}" for name in row.changed)
            self.counts.update(f"notes.{note}" for note in row.notes)
        elif reason is not None:
            self.refused.append(RefusedRow(read.row.line, word, reason, read.row.cells))
        if word == REFUSED:
            self.counts[f"refused.{reason}"] += 1
        if where not in self.districts and len(self.districts) >= MAX_DISTRICTS:
            where = "other"
        self.districts.add(where)
        self.counts[f"counts.{word}"] += 1
        self.counts[f"districts.{where}.{word}"] += 1


class PlanJob:
    def __init__(self, core: Core, store: ImportStore, pages: Pages, announcing: Announcing) -> None:
        self._inputs = core.runtime.jobs.inputs
        self._clock = core.runtime.server_clock
        self._core = core
        self._store = store
        self._pages = pages
        self._announcing = announcing
        self._rows_counted = core.metrics.import_rows
        self.kind = JobKind(KIND, self.step)

    async def step(self, job: Job) -> Effect:
        """Plan the next slice after the cursor, `[offset, line, skipping, page]`.

        Raises: `TooManyError`, which ends the job, once the caller was told of too many phones of members
        outside their units.
        """
        document = await self._store.find(job.id)
        assert document is not None, "an import and its job are added in one transaction"
        form = form_from(document, await self._pages.header(document))
        offset, line, skipping, number = job.cursor or (form.start, form.line, False, 0)
        place = Place(offset, line, skipping)
        content = await self._inputs.read(job.id, place.offset, SLICE_BYTES, self._core.vault)
        at_end = place.offset + len(content) >= document["length"]
        most = self._announcing.page_rows(terms_from(document))
        slice_, read = await asyncio.to_thread(
            self._read, form, document["fields"], content, place, at_end, most
        )
        page = await self._compare(job, document, read)
        id_ = page_id(job.id, number)
        fields = {
            name: sealed
            for name, rows in ((PLAN_FIELD, page.planned), (REFUSED_FIELD, page.refused))
            if (sealed := await self._pages.seal(id_, name, rows)) is not None
        }
        now = self._clock.now()

        async def write(work: UnitOfWork) -> Advance:
            if fields:
                await self._store.add_page({"_id": id_, "at": now, **fields}, work.session)
            await self._store.see(job.id, page.seen, now, work.session)
            done = {"planned_at": now} if slice_.at_end else None
            await self._store.count(job.id, page.counts, work.session, done)
            outcomes = {
                word.partition(".")[2]: n for word, n in page.counts.items() if word.startswith("counts.")
            }
            work.after_commit(lambda: self._count(outcomes))
            then = slice_.then
            return Advance(
                cursor=[then.offset, then.line, then.skipping, number + 1],
                done=then.offset - job.done,
                total=document["length"],
                counts=outcomes,
                finished=slice_.at_end,
                result=dict(Counter(job.counts) + Counter(outcomes)),
            )

        return write

    def _count(self, outcomes: Mapping[str, int]) -> None:
        for word, n in outcomes.items():
            self._rows_counted.labels(word).inc(n)

    def _read(
        self,
        form: Form,
        fields: Sequence[str | None],
        content: bytes,
        place: Place,
        at_end: bool,
        most: int,
    ) -> tuple[Slice, list[_Read]]:
        """In a thread: parsing never holds the event loop."""
        slice_ = read_slice(form, content, place, at_end=at_end, most=most)
        return slice_, [self._draft(form, fields, row) for row in slice_.rows]

    def _draft(self, form: Form, fields: Sequence[str | None], row: Row) -> _Read:
        if row.problem:
            return _Read(row, None, row.problem)
        if list(row.cells) == list(form.header):
            return _Read(row, None, "header_again")
        try:
            made = draft(fields, row.cells, row.kinds, spreadsheet=form.kind == "csv")
        except RefusedError as refused:
            return _Read(row, None, refused.reason)
        values, contacts = made.values, self._core.contacts
        if made.numbers:
            return _Read(row, made, None, phones=tuple(map(contacts.fingerprint, made.numbers)))
        if "reached_by" in values and "name" in values and "id" not in values:
            return _Read(row, made, None, dependent=contacts.dependent(values["reached_by"], values["name"]))
        return _Read(row, made, None)

    async def _compare(self, job: Job, document: Mapping[str, Any], read: Sequence[_Read]) -> _Page:
        known = await self._look_up(read)
        await self._record_taken(job.requested_by, known)
        keys = {key for each in read for key in _keys(each, known)}
        seen = await self._store.seen(job.id, keys)
        terms = terms_from(document)
        rules = _Rules(job.requested_by, terms, known, self._clock.now())
        page = _Page({}, [], [], Counter(), set(document.get("districts", ())))
        for each in read:
            named = _keys(each, known)
            earlier = [line for key in named if (line := seen.get(key) or page.seen.get(key))]
            if earlier:
                outcome = _Outcome(DUPLICATE, f"same_as_line_{earlier[0]}")
            else:
                outcome = rules.outcome(each)
                page.seen.update(dict.fromkeys(named, each.row.line))
            page.add(each, outcome, rules.district(each))
            if outcome.row is not None and is_welcomed(outcome.row, terms):
                page.counts["welcomed"] += 1
        counted = sum(page.counts[f"counts.{word}"] for word in OUTCOMES)
        assert counted == len(read), "each row has one outcome"
        return page

    async def _record_taken(self, caller: Identity, known: _Known) -> None:
        """The plan tells of a phone that it is taken outside the caller's units: no list of numbers can be
        tried so.

        Raises: `TooManyError`.
        """
        outside = [r.member.id for r in known.by_phone.values() if not caller.can_access(r.member.unit)]
        if outside:
            self._core.taken_phones.check_may_ask(caller, len(outside))
            await self._core.taken_phones.record(caller, outside, "phone_of_import")

    async def _look_up(self, read: Sequence[_Read]) -> _Known:
        drafts = [each.draft for each in read if each.draft is not None]
        phones = [phone for each in read for phone in each.phones]
        by_phone = await self._store.active_by_phone(phones)
        by_id = await self._store.members({d.values["id"] for d in drafts if "id" in d.values})
        free = [phone for phone in phones if phone not in by_phone]
        left = set(await self._store.gone_by_phone(free, Status.LEFT))
        merged = await self._store.gone_by_phone(free, Status.MERGED)
        survivors = await self._core.store.survivors(merged.values())
        merged = {phone: survivors.get(id_, id_) for phone, id_ in merged.items()}
        inviters = await self._core.store.existing(
            {d.values["inviter_id"] for d in drafts if "inviter_id" in d.values}
        )
        reached_by = {d.values["reached_by"] for d in drafts if "reached_by" in d.values}
        reaching = await self._core.store.with_number(reached_by)
        reached = await self._store.reached_by(reaching) if any(each.dependent for each in read) else []
        dependents = {
            self._core.contacts.dependent(r.member.reached_by or "", r.member.name): r for r in reached
        }
        erased = await self._core.erasures.of_members(d.values["id"] for d in drafts if "id" in d.values)
        sealed = await self._core.erasures.sealed_phones(phones)
        records = {record.member.id: record for record in (*by_phone.values(), *by_id.values(), *reached)}
        contacts = await self._core.contacts.open(list(records.values()))
        opened = dict(zip(records, contacts, strict=True))
        return _Known(by_id, by_phone, opened, left, merged, inviters, reaching, dependents, erased, sealed)


def _match(read: _Read, known: _Known) -> Record | None:
    """The member whom the row is about: by its id, else by one of its numbers, else by its name and who
    reaches it."""
    if read.draft is not None and (id_ := read.draft.values.get("id")) is not None:
        return known.by_id.get(id_)
    if read.dependent is not None:
        return known.dependents.get(read.dependent)
    return next((known.by_phone[phone] for phone in read.phones if phone in known.by_phone), None)


def _keys(read: _Read, known: _Known) -> list[str]:
    """Keys that no second row of the file may have."""
    match = _match(read, known)
    return [key for key in (*read.phones, read.dependent, match and match.member.id) if key]


class _Rules:
    """Decides about one row at a time, for the caller who asked for the import."""

    def __init__(self, caller: Identity, terms: Terms, known: _Known, now: datetime) -> None:
        self._caller = caller
        self._terms = terms
        self._known = known
        self._now = now

    def outcome(self, read: _Read) -> _Outcome:
        if read.draft is None:
            return _Outcome(REFUSED, read.reason)
        match, values = _match(read, self._known), read.draft.values
        renamed = match is None or match.member.name != values.get("name")
        reason = "legacy_font" if read.draft.legacy and renamed else self._bad_value(values, match)
        if reason is None:
            reason = self._not_to_change(read, match.member) if match else self._not_new(read, values)
        if reason is not None:
            return _Outcome(REFUSED, reason)
        if match is None:
            return _Outcome(NEW, row=self._new(read.row.line, read.draft))
        return self._existing(read.row.line, read.draft, match.member)

    def district(self, read: _Read) -> str:
        """The district of the row's unit, as far as the caller may know it."""
        match = _match(read, self._known)
        values = read.draft.values if read.draft else {}
        unit = values.get("unit") or (match.member.unit if match else self._terms.unit)
        return district(unit if unit and self._caller.can_access(unit) else None)

    def _bad_value(self, values: Mapping[str, Any], match: Record | None) -> str | None:
        year = values.get("birth_year")
        if year is not None and not (match and match.member.birth_year == year):
            if not is_plausible_birth_year(year, self._now):
                return "birth_year"
            if may_be_minor(year, self._now):
                return "minor"
        if "unit" in values and not self._caller.can_access(values["unit"]):
            return "unit_outside"
        if match is None and values.get("inviter_id") not in {None, *self._known.inviters}:
            return "inviter_id"
        return self._bad_reached_by(values, match)

    def _bad_reached_by(self, values: Mapping[str, Any], match: Record | None) -> str | None:
        reached_by = values.get("reached_by")
        if reached_by is None or (match and match.member.reached_by == reached_by):
            return None
        if "phone" in values:
            return "phone_and_reached_by"
        unit = self._known.reaching.get(reached_by)
        return None if unit is not None and self._caller.can_access(unit) else "reached_by"

    def _not_new(self, read: _Read, values: Mapping[str, Any]) -> str | None:
        """Why no member can be made of the row."""
        reasons = {
            "erased": self._was_erased(read, values),
            "unknown_id": "id" in values,
            "no_phone": not read.phones and "reached_by" not in values,
            "has_left": not self._known.left.isdisjoint(read.phones),
            "merged": not self._known.merged.keys().isdisjoint(read.phones),
            "no_name": "name" not in values,
            "no_unit": "unit" not in values and self._terms.unit is None,
        }
        return next((reason for reason, applies in reasons.items() if applies), None)

    def _was_erased(self, read: _Read, values: Mapping[str, Any]) -> bool:
        erasure = self._known.erased.get(values.get("id", ""))
        visible = erasure is not None and self._caller.can_access(erasure.unit)
        return visible or not self._known.sealed.isdisjoint(read.phones)

    def _not_to_change(self, read: _Read, member: Member) -> str | None:
        """Why the row's member cannot be changed. One outside the caller's units looks like nobody's id, or
        like a phone that is taken, as in any other request."""
        known = self._known
        holders = [known.by_phone[phone].member for phone in read.phones if phone in known.by_phone]
        others = [holder for holder in holders if holder.id != member.id]
        if not self._caller.can_access(member.unit):
            return "phone_taken" if len(others) < len(holders) else "unknown_id"
        if member.status != Status.ACTIVE:
            return "merged" if member.status == Status.MERGED else "has_left"
        values = read.draft.values if read.draft else {}
        if "id" in values:
            if others:
                return "phone_taken"
        elif reason := self._numbers_of_others(read, member, others):
            return reason
        return "has_number" if member.own_number and "reached_by" in values else None

    def _numbers_of_others(self, read: _Read, member: Member, others: Sequence[Member]) -> str | None:
        """Why a row whose member is known by one of its numbers alone cannot be theirs, for its others."""
        known = self._known
        if not all(self._caller.can_access(other.unit) for other in others):
            return "phone_taken"
        if not known.sealed.isdisjoint(read.phones):
            return "erased"
        merged = {known.merged[phone] for phone in read.phones if phone in known.merged}
        if others or merged - {member.id} or not known.left.isdisjoint(read.phones):
            return "numbers_of_two_members"
        return None

    def _new(self, line: int, made: Draft) -> PlannedRow:
        values = {"unit": self._terms.unit, **made.values}
        notes = made.notes if self._terms.consents else _without_blank(made.notes)
        also = made.numbers[1:]
        return PlannedRow(line, new_id(), 0, values, made.handles, made.consent, notes=notes, also=also)

    def _existing(self, line: int, made: Draft, member: Member) -> _Outcome:
        contact = self._known.contacts[member.id]
        values = dict(made.values)
        if contact.phone in made.numbers:  # in whatever place: the member keeps it
            values["phone"] = contact.phone
        changed = changed_fields(member, contact, values, made.handles)
        if not changed:
            return _Outcome(UNCHANGED)
        old = before(member, changed)
        row = PlannedRow(
            *(line, member.id, member.version, values, made.handles, None, changed, old),
            notes=_without_blank(made.notes),
            also=tuple(number for number in made.numbers if number != values["phone"]),
        )
        return _Outcome(CHANGED, row=row)


def _without_blank(notes: Sequence[str]) -> tuple[str, ...]:
    """The notes without the one that a consent was not answered, where none is recorded anyway."""
    return tuple(note for note in notes if note != CONSENT_BLANK)
