"""Applying updates: to delivery records, identities and the suppression list; and telling the others.

Every update is applied once, however often and in whatever order it comes: a report by its rank, a message of
a person by its provider's id, a stop or start by its time. One transaction applies a batch of them, and its
callers may halve it: an update depends on no other of its batch.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from services.notifications.core.breakers.breakers import Breakers
from services.notifications.core.core import Core
from services.notifications.core.deliveries.applying import Applied
from services.notifications.core.deliveries.domain import DeliveryRecord
from services.notifications.core.domain import Meaning
from services.notifications.core.fingerprints import canonical
from services.notifications.core.opting_out import stage_about_members
from services.notifications.core.policies.domain import account_of
from services.notifications.core.recipients import Recipient
from services.notifications.core.suppressions.domain import (
    BUTTON,
    MARKETING,
    MESSAGES,
    MISSED_CALL,
    PREFERENCE,
    START_WORD,
    STOP_WORD,
    Act,
    Suppression,
    suppression_id,
)
from services.notifications.core.updates import (
    IdentityChanged,
    Inbound,
    LimitTold,
    Notice,
    Person,
    PreferenceChanged,
    Report,
    Update,
)
from services.notifications.webhooks.domain import (
    Identity,
    Seen,
    follow_change,
    identity_id,
    learn,
    whose,
)
from services.notifications.webhooks.metrics import WebhookMetrics
from services.notifications.webhooks.store import (
    KEEP_INBOUND,
    IdentityStore,
    InboundStore,
    Parked,
    ParkedStore,
)
from services.notifications.webhooks.words import Wish, plain, wish_of
from services.shared.contracts.base import Event
from services.shared.contracts.notifications import MemberReplied
from services.shared.contracts.vocabulary import Channel
from services.shared.database import Document, Session
from services.shared.errors import PermanentError
from services.shared.messaging import Origin, UnitOfWork

GIVE_UP_AFTER: Final = timedelta(days=1)
FIRST_LOOK: Final = timedelta(seconds=2)
"""A report may be here before the answer to the request that it is about."""
LONGEST_PAUSE: Final = timedelta(hours=1)
MAX_ID: Final = 256
MAX_TEXT: Final = 4096
MARKETING_CATEGORY: Final = "marketing_messages"
_INBOUND: Final = UUID("0d0f7c55-6e1a-5d57-9c39-6a4d8f0b9a11")
"""The namespace of the ids of what people send (RFC 9562, 5.5); it never changes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One update, and where it is from."""

    callback_id: str
    channel: str
    sender: str
    account: str
    update: Update = field(repr=False)
    received_at: datetime


def checked(update: Update, received_at: datetime) -> Update:
    """The update with a time that is not ahead of its arrival: one that is would outweigh all that follows.

    Raises: `PermanentError` for an id that no provider has.
    """
    ids = [
        getattr(update, name, None) for name in ("provider_id", "reference", "answers", "previous_user_id")
    ]
    person: Person | None = getattr(update, "person", None)
    if person is not None:
        ids += [person.user_id, person.phone]
    if any(each is not None and not 0 < len(each) <= MAX_ID for each in ids):
        raise PermanentError("id_length", "an id is empty or too long")
    if update.at.tzinfo is None:
        raise PermanentError("time_zone", "a time has no zone")
    return replace(update, at=min(update.at, received_at))


@dataclass
class _Batch:
    """The state that a batch reads, and the changes that it makes."""

    work: UnitOfWork
    now: datetime
    answered: Mapping[tuple[str, str], DeliveryRecord]
    """Records of the messages that people answer, by sender and provider's id."""
    newest_to: Mapping[str, DeliveryRecord]
    identities: dict[str, Identity]
    of_members: dict[str, dict[str, Identity]]
    recipients: Mapping[str, Recipient]
    suppressions: Mapping[str, Suppression]
    known: set[str]
    """Messages of people that were handled before."""
    learnt: dict[str, Identity] = field(default_factory=dict)
    parked: list[Parked] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    inbound: list[Document] = field(default_factory=list)
    texts: list[tuple[str, Document]] = field(default_factory=list)
    counts: list[tuple[str, str]] = field(default_factory=list)
    windows: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """When people have written last, by channel and fingerprint."""
    conflicts: int = 0


class Updating:
    def __init__(
        self,
        core: Core,
        parked: ParkedStore,
        inbound: InboundStore,
        identities: IdentityStore,
        metrics: WebhookMetrics,
    ) -> None:
        self._core = core
        self._outbox = core.runtime.outbox
        self._fingerprints = core.fingerprints
        self._vault = core.vault
        self._clock = core.clock
        self._parked = parked
        self._inbound = inbound
        self._identities = identities
        self._metrics = metrics
        self._stop_numbers = _numbers(core.settings.stop_numbers)
        self._join_numbers = _numbers(core.settings.join_numbers)

    async def apply(self, items: Sequence[Item]) -> None:
        """Apply them all, in one transaction.

        Raises: `PermanentError` for an update that cannot be applied; whatever MongoDB raises.
        """
        await self._fingerprints.ready()
        checked_ = [replace(item, update=checked(item.update, item.received_at)) for item in items]

        async def body(work: UnitOfWork) -> dict[str, list[Applied]]:
            applied = await self._apply_reports(((i.sender, i.update) for i in checked_), work)
            of_reports = {sender: iter(results) for sender, results in applied.items()}
            batch = await self._load(checked_, applied, work)
            for item in checked_:
                if isinstance(item.update, Report):
                    self._apply_report(item, next(of_reports[item.sender]), batch)
                else:
                    self._apply_one(item, batch)
            await self._write(batch)
            return applied

        for sender, applied in (await self._outbox.transact(body)).items():
            await self._core.reports.stop(sender, applied)
        for item in checked_:
            if isinstance(item.update, Notice):
                await self._core.breakers.notice(item.sender, item.update, _kind_of(item.update))
                await self._keep_state(item.channel, item.update)
            elif isinstance(item.update, LimitTold):
                account = account_of(item.channel, item.account)
                await self._core.budgets.told(account, item.update.recipients, item.update.at)

    async def _keep_state(self, channel: str, notice: Notice) -> None:
        """Keep what the provider tells of a template's approval."""
        if notice.language is None:
            return

        async def body(work: UnitOfWork) -> None:
            await self._core.template_changes.told(channel, notice, work)

        await self._outbox.transact(body)

    async def look_again(self, parked: Sequence[Parked]) -> None:
        """Apply parked reports whose message is known by now; drop those that have waited for a day."""

        async def body(work: UnitOfWork) -> tuple[dict[str, list[Applied]], int]:
            now = self._clock.now()
            applied = await self._apply_reports(((p.sender, p.report) for p in parked), work)
            of_reports = {sender: iter(results) for sender, results in applied.items()}
            settled, again, given_up = [], {}, 0
            for p in parked:
                if next(of_reports[p.sender]).record is not None:
                    settled.append(p.id)
                elif p.give_up_at <= now:
                    settled.append(p.id)
                    given_up += 1
                else:
                    again[p.id] = now + min(LONGEST_PAUSE, FIRST_LOOK * 2 ** (min(p.tries, 20) + 1))
            await self._parked.settle(settled, again, work.session)
            return applied, given_up

        all_applied, given_up = await self._outbox.transact(body)
        self._metrics.given_up.inc(given_up)
        for sender, applied in all_applied.items():
            await self._core.reports.stop(sender, applied)
            for each in applied:
                if each.record is not None:
                    self._metrics.updates.labels("report", "applied" if each.is_news else "nothing_new").inc()

    # -- what is known

    async def _apply_reports(
        self, reports: Iterable[tuple[str, Update]], work: UnitOfWork
    ) -> dict[str, list[Applied]]:
        """Apply the reports among updates with their senders. The results by sender, in the order given."""
        by_sender: dict[str, list[Report]] = defaultdict(list)
        for sender, update in reports:
            if isinstance(update, Report):
                by_sender[sender].append(update)
        return {
            sender: await self._core.reports.apply(sender, reports, work)
            for sender, reports in by_sender.items()
        }

    async def _load(
        self, items: Sequence[Item], applied: Mapping[str, Sequence[Applied]], work: UnitOfWork
    ) -> _Batch:
        """Read what the updates are about: nothing for reports without an id of a person, as those of SMS."""
        items = [item for item in items if not _tells_nobody(item.update)]
        if not items:
            return _Batch(work, self._clock.now(), {}, {}, {}, {}, {}, {}, set())
        session = work.session
        provider_ids, people, handled = set(), set(), set()
        for item in items:
            update = item.update
            if isinstance(update, Inbound) and update.answers is not None:
                provider_ids.add((item.sender, update.answers))
            if isinstance(update, Inbound | IdentityChanged):
                handled.add(_inbound_id(item))
            people |= set(self._people(item))
        answered = await self._core.deliveries.by_provider_id(provider_ids, session)
        identities = await self._identities.by_id(
            {identity_id(channel, account, user) for (channel, account), user, _ in people if user}, session
        )
        phones = {phone for _, _, phone in people if phone is not None}
        phones |= {i.phone for i in identities.values() if i.phone is not None}
        newest_to = await self._core.deliveries.newest_to(phones, session)
        members = {r.member_id for r in (*answered.values(), *newest_to.values())}
        members |= {a.record.member_id for each in applied.values() for a in each if a.record is not None}
        members |= {i.member_id for i in identities.values() if i.member_id is not None}
        rivals = await self._identities.of_members(members, session)
        return _Batch(
            work=work,
            now=self._clock.now(),
            answered=answered,
            newest_to=newest_to,
            identities=identities,
            of_members={id_: {i.id: i for i in them} for id_, them in rivals.items()},
            recipients=await self._core.recipients.by_id(members, session) if members else {},
            suppressions=await self._suppressions(people, identities.values(), session),
            known=await self._inbound.known(handled, session),
        )

    def _people(self, item: Item) -> Iterable[tuple[tuple[str, str], str | None, str | None]]:
        """`(channel and account, user id, fingerprint of the number)` of all that the update names."""
        update, of = item.update, (item.channel, item.account)
        person: Person | None = getattr(update, "person", None)
        if person is not None:
            yield of, person.user_id, self._phone(item.channel, person.phone)
        if isinstance(update, IdentityChanged):
            yield of, update.previous_user_id, self._phone(item.channel, update.previous_phone)

    async def _suppressions(
        self,
        people: Iterable[tuple[tuple[str, str], str | None, str | None]],
        identities: Iterable[Identity],
        session: Session,
    ) -> dict[str, Suppression]:
        """The entries that may have to follow a person to another address."""
        ids: set[str] = set()
        for (channel, _), user_id, phone in people:
            fingerprints = [phone] if phone is not None else []
            fingerprints += [self._fingerprints.of_id(channel, user_id)] if user_id is not None else []
            ids |= {suppression_id(channel, each) for each in fingerprints}
        ids |= {suppression_id(i.channel, i.phone) for i in identities if i.phone is not None}
        return await self._core.suppressions.by_id(ids, session)

    def _phone(self, channel: str, phone: str | None) -> str | None:
        return None if phone is None else self._fingerprints.of(channel, phone)

    # -- one update

    def _apply_one(self, item: Item, batch: _Batch) -> None:
        match item.update:
            case Inbound() as inbound:
                batch.counts.append(("inbound", self._apply_inbound(item, inbound, batch)))
            case IdentityChanged() as changed:
                batch.counts.append(("identity", self._apply_change(item, changed, batch)))
            case PreferenceChanged() as preference:
                self._apply_preference(item, preference, batch)
                batch.counts.append(("preference", "applied"))
            case Notice():  # followed when all else is committed
                batch.counts.append(("notice", "applied"))
            case LimitTold():
                batch.counts.append(("limit", "applied"))

    def _apply_report(self, item: Item, applied: Applied, batch: _Batch) -> None:
        """Learn from a report who is who; the rest of it is applied."""
        report, record = applied.report, applied.record
        if report.person.user_id is not None:
            seen = Seen(
                report.person.user_id,
                report.at,
                self._phone(item.channel, report.person.phone) or (record.to if record else None),
                record.member_id if record else None,
            )
            self._learn(item, seen, batch)
        if record is None:
            batch.parked.append(_to_park(item, report, batch.now))
            outcome = "parked"
        else:
            outcome = "applied" if applied.is_news else "nothing_new"
        batch.counts.append(("report", outcome))

    def _apply_inbound(self, item: Item, inbound: Inbound, batch: _Batch) -> str:
        id_ = _inbound_id(item)
        if id_ in batch.known:
            return "nothing_new"
        batch.known.add(id_)
        phone = self._phone(item.channel, inbound.person.phone)
        identity, member_id = self._who(item, inbound, phone, batch)
        kind = self._kind(inbound)
        row: Document = {
            "_id": id_,
            "kind": kind,
            "channel": item.channel,
            "at": inbound.at,
            "forget_at": batch.now + KEEP_INBOUND,
        }
        if member_id is not None:
            row["member_id"] = member_id
        batch.inbound.append(row)
        who = phone or (identity.phone if identity else None)
        if item.channel == Channel.WHATSAPP and who is not None and not inbound.missed_call:
            before = batch.windows.get((item.channel, who), inbound.at)
            batch.windows[item.channel, who] = max(before, inbound.at)
        if kind in ("stop", "start"):
            stops = kind == "stop"
            self._act(item, inbound, identity, phone, member_id, stops=stops, batch=batch)
        elif member_id is not None:
            self._apply_reply(item, inbound, id_, member_id, batch)
        elif kind == "join" and inbound.person.phone is not None:
            batch.texts.append((id_, {"phone": canonical(item.channel, inbound.person.phone)}))
        return "applied"

    def _kind(self, inbound: Inbound) -> str:
        if inbound.missed_call:
            to = canonical(Channel.SMS, inbound.to or "")
            if to in self._stop_numbers:
                return "stop"
            return "join" if to in self._join_numbers else "call"
        said = plain(inbound.payload) if inbound.payload and len(inbound.payload) < MAX_ID else None
        wish = Wish(said) if said in (Wish.STOP.value, Wish.START.value) else wish_of(inbound.text)
        return wish.value if wish is not None else "reply"

    def _who(
        self, item: Item, inbound: Inbound, phone: str | None, batch: _Batch
    ) -> tuple[Identity | None, str | None]:
        """The identity and the member who wrote, as far as that is sure."""
        user_id = inbound.person.user_id
        known = batch.identities.get(identity_id(item.channel, item.account, user_id)) if user_id else None
        answered = batch.answered.get((item.sender, inbound.answers or ""))
        newest = batch.newest_to.get(phone or (known.phone if known else None) or "")
        member_id, contradict = whose(
            known.member_id if known else None,
            answered.member_id if answered else None,
            newest.member_id if newest else None,
        )
        if contradict:
            batch.conflicts += 1
        if user_id is None:
            return None, member_id
        identity = self._learn(item, Seen(user_id, inbound.at, phone, member_id), batch)
        # A second id of a member speaks for nobody, unless it answers a message to that member.
        if member_id is not None and identity.member_id != member_id and answered is None:
            member_id = None
        return identity, member_id

    def _learn(self, item: Item, seen: Seen, batch: _Batch) -> Identity:
        known = batch.identities.get(identity_id(item.channel, item.account, seen.user_id))
        others = list(batch.of_members.get(seen.member_id or "", {}).values())
        after = learn(known, seen, others, item.channel, item.account)
        if after != known:
            if after.rivals and not (known and known.rivals):
                batch.conflicts += 1
            self._note(after, batch)
        if after.phone is not None and (known is None or known.phone is None):
            of_id = suppression_id(item.channel, self._fingerprints.of_id(item.channel, seen.user_id))
            self._follow(of_id, item.channel, after, batch)
        return after

    def _note(self, identity: Identity, batch: _Batch) -> None:
        batch.identities[identity.id] = batch.learnt[identity.id] = identity
        if identity.member_id is not None:
            batch.of_members.setdefault(identity.member_id, {})[identity.id] = identity

    def _follow(self, from_: str, channel: str, identity: Identity, batch: _Batch) -> None:
        """Somebody who has stopped under another address or id is not written to under the new one."""
        entry = batch.suppressions.get(from_)
        if entry is None or not entry.stopped or identity.phone is None:
            return
        to = suppression_id(channel, identity.phone)
        batch.acts.append(Act(to, channel, True, entry.purposes, entry.via, entry.at, code=entry.code))

    def _act(
        self,
        item: Item,
        update: Inbound | PreferenceChanged,
        identity: Identity | None,
        phone: str | None,
        member_id: str | None,
        *,
        stops: bool,
        batch: _Batch,
    ) -> None:
        """Stop, or start again, on each address of the person that is known. A start lifts only what is about
        the very address, or the very id, that it came from."""
        via, purposes = _via(update), MESSAGES
        if isinstance(update, PreferenceChanged):
            purposes = MARKETING
        addresses = {phone}
        user_id = update.person.user_id
        if identity is not None and (stops or phone is None):
            addresses.add(identity.phone)
        if user_id is not None:
            addresses.add(self._fingerprints.of_id(item.channel, user_id))
        unit = self._unit(member_id, batch) if member_id is not None else None
        batch.acts += [
            Act(
                suppression_id(item.channel, address, via),
                item.channel,
                stops,
                purposes,
                via if stops or via == PREFERENCE else START_WORD,
                update.at,
                member_id if unit else None,
                unit,
            )
            for address in sorted(each for each in addresses if each is not None)
        ]

    def _apply_reply(self, item: Item, inbound: Inbound, id_: str, member_id: str, batch: _Batch) -> None:
        unit = self._unit(member_id, batch)
        if unit is None:
            return
        answered = batch.answered.get((item.sender, inbound.answers or ""))
        kind = "missed_call" if inbound.missed_call else "button" if inbound.payload else "text"
        batch.events.append(
            MemberReplied(
                member_id=member_id,
                unit=unit,
                channel=item.channel,
                reply_id=id_,
                kind=kind,
                notification_id=answered.notification_id if answered else None,
            )
        )
        said = {"text": inbound.text, "payload": inbound.payload}
        if text := {name: value[:MAX_TEXT] for name, value in said.items() if value}:
            batch.texts.append((id_, text))

    def _apply_change(self, item: Item, changed: IdentityChanged, batch: _Batch) -> str:
        id_ = _inbound_id(item)
        user_id = changed.person.user_id or changed.previous_user_id
        if id_ in batch.known or user_id is None:
            return "nothing_new"
        batch.known.add(id_)
        row: Document = {"_id": id_, "kind": "identity", "channel": item.channel, "at": changed.at}
        batch.inbound.append({**row, "forget_at": batch.now + KEEP_INBOUND})
        of = {
            name: batch.identities.get(identity_id(item.channel, item.account, name)) if name else None
            for name in (user_id, changed.previous_user_id)
        }
        seen = Seen(user_id, changed.at, self._phone(item.channel, changed.person.phone))
        previous = of[changed.previous_user_id]
        was = previous or of[user_id]
        made, ended = follow_change(previous, of[user_id], seen, item.channel, item.account)
        for each in (ended, made):
            if each is not None:
                self._note(each, batch)
        before = was.phone if was is not None else self._phone(item.channel, changed.previous_phone)
        if before is not None and before != made.phone:
            self._follow(suppression_id(item.channel, before), item.channel, made, batch)
        return "applied"

    def _apply_preference(self, item: Item, preference: PreferenceChanged, batch: _Batch) -> None:
        user_id = preference.person.user_id
        phone = self._phone(item.channel, preference.person.phone)
        known = batch.identities.get(identity_id(item.channel, item.account, user_id)) if user_id else None
        newest = batch.newest_to.get(phone or (known.phone if known else None) or "")
        member_id, _ = whose(known.member_id if known else None, None, newest.member_id if newest else None)
        stops = preference.stopped
        self._act(item, preference, known, phone, member_id, stops=stops, batch=batch)

    def _unit(self, member_id: str, batch: _Batch) -> str | None:
        recipient = batch.recipients.get(member_id)
        if recipient is not None and recipient.unit:
            return recipient.unit
        known = (*batch.newest_to.values(), *batch.answered.values())
        return next((record.unit for record in known if record.member_id == member_id), None)

    # -- what is written

    async def _write(self, batch: _Batch) -> None:
        work, origin = batch.work, Origin.here()
        await self._parked.add(batch.parked, batch.now + FIRST_LOOK, work.session)
        await self._identities.save(list(batch.learnt.values()), work.session)
        sealed = dict(zip((id_ for id_, _ in batch.texts), await self._vault.seal(batch.texts), strict=True))
        rows = [
            row | ({"sealed": sealed[row["_id"]]} if row["_id"] in sealed else {}) for row in batch.inbound
        ]
        await self._inbound.add(rows, work.session)
        await self._core.windows.open(batch.windows, work.session)
        await self._core.opting_out.act(batch.acts, work, origin)
        await stage_about_members(batch.events, self._core.sequences, work, origin)
        work.after_commit(lambda: self._count(batch))

    def _count(self, batch: _Batch) -> None:
        for kind, outcome in batch.counts:
            self._metrics.updates.labels(kind, outcome).inc()
        self._metrics.conflicts.inc(batch.conflicts)


def _numbers(numbers: Iterable[str]) -> frozenset[str]:
    return frozenset(canonical(Channel.SMS, number) for number in numbers)


def _inbound_id(item: Item) -> str:
    assert isinstance(item.update, Inbound | IdentityChanged)
    return str(uuid5(_INBOUND, f"{item.sender}:{item.update.provider_id}"))


def _kind_of(notice: Notice) -> str:
    """The kind of the breaker that a notice is about. One that lets something go on has no meaning, but only
    templates have a language."""
    about_template = notice.meaning is Meaning.TEMPLATE or notice.language is not None
    return Breakers.MEANINGS[Meaning.TEMPLATE if about_template else notice.meaning or Meaning.CHANNEL]


def _tells_nobody(update: Update) -> bool:
    """Whether it is a report from which nothing is learnt about who is who."""
    return isinstance(update, Report) and update.person.user_id is None


def _to_park(item: Item, report: Report, now: datetime) -> Parked:
    key = "\0".join([item.sender, report.provider_id or "", report.reference or "", report.status.value])
    id_ = hashlib.sha256(key.encode()).hexdigest()
    return Parked(id_, item.sender, replace(report, person=Person()), 0, now + GIVE_UP_AFTER)


def _via(update: Inbound | PreferenceChanged) -> str:
    if isinstance(update, PreferenceChanged):
        return PREFERENCE
    if update.missed_call:
        return MISSED_CALL
    return BUTTON if update.payload else STOP_WORD
