"""Opting out: what a stop changes, however it was said.

At once, in one transaction: the address is on the suppression list, `member.opted_out` tells the others (the
members service writes it into the ledger), and one confirmation is queued. Whoever sends STOP is heard, also
somebody whom we do not know: then only the list changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.notifications.core.domain import (
    STOPPED,
    Cause,
    Notification,
    State,
    notification_id,
    queue,
)
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.policies.domain import SERVICE
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import facts_heard, judge
from services.notifications.core.store import MemberSequences, NotificationStore, RecipientStore
from services.notifications.core.suppressions.domain import INFERRED, UNSUBSCRIBE, Act, Suppression, apply_act
from services.notifications.core.suppressions.store import SuppressionStore
from services.notifications.core.texts import Texts
from services.notifications.core.writing import Change, NotificationWriter
from services.shared.clock import Clock
from services.shared.contracts.base import Event
from services.shared.contracts.notifications import MemberOptedOut
from services.shared.messaging import Origin, UnitOfWork

CONFIRM_WITHIN: Final = timedelta(hours=24)
"""A confirmation that cannot go in this time confirms nothing any more."""


class OptingOut:
    def __init__(
        self,
        suppressions: SuppressionStore,
        recipients: RecipientStore,
        notifications: NotificationStore,
        sequences: MemberSequences,
        texts: Texts,
        clock: Clock,
        metrics: NotificationMetrics,
        writer: NotificationWriter,
    ) -> None:
        self._suppressions = suppressions
        self._recipients = recipients
        self._notifications = notifications
        self._sequences = sequences
        self._texts = texts
        self._clock = clock
        self._metrics = metrics
        self._writer = writer

    async def act(self, acts: Sequence[Act], work: UnitOfWork, origin: Origin) -> None:
        """Apply stops and starts, in the order given. Repeated, they change nothing."""
        if not acts:
            return
        now = self._clock.now()
        entries = await self._suppressions.by_id({act.id for act in acts}, work.session)
        changed: dict[str, Suppression] = {}
        begun: list[tuple[Act, Suppression]] = []
        for act in acts:
            before = changed.get(act.id) or entries.get(act.id)
            after = apply_act(before, act, now)
            if after is None:
                continue
            changed[act.id] = after
            if act.stops and after.stops > (before.stops if before else 0):
                begun.append((act, after))
        await self._suppressions.save(list(changed.values()), work.session)
        work.after_commit(lambda: self._count(begun))
        # A person with several addresses on the channel has stopped once.
        once = {(act.member_id, act.channel): (act, entry) for act, entry in reversed(begun)}
        known = [each for each in once.values() if each[0].via != INFERRED and each[0].member_id is not None]
        await self._tell(known, work, origin)
        # Whoever has clicked in an e-mail has seen that it is done.
        said = [each for each in known if each[0].via != UNSUBSCRIBE]
        await self._confirm(said, work, origin, now)

    async def _tell(self, stops: Sequence[tuple[Act, Suppression]], work: UnitOfWork, origin: Origin) -> None:
        events = [
            MemberOptedOut(
                member_id=act.member_id,
                unit=act.unit,
                channel=act.channel,
                purposes=act.purposes,
                via=act.via,
            )
            for act, _ in stops
            if act.member_id is not None and act.unit is not None
        ]
        await stage_about_members(events, self._sequences, work, origin)

    async def _confirm(
        self, stops: Sequence[tuple[Act, Suppression]], work: UnitOfWork, origin: Origin, now: datetime
    ) -> None:
        ids = {act.member_id for act, _ in stops if act.member_id is not None}
        recipients = await self._recipients.by_id(ids, work.session) if ids else {}
        wanted: dict[str, Notification] = {}
        for act, entry in stops:
            recipient = recipients.get(act.member_id or "")
            if recipient is None or not recipient.active or not recipient.language:
                continue
            made = self._confirmation(act, entry, recipient, origin, now)
            wanted[made.id] = made
        there = await self._notifications.by_id(wanted, work.session) if wanted else {}
        changes: list[Change] = []
        for id_, made in wanted.items():
            if id_ not in there:
                facts = facts_heard(made.about(now), recipients[made.member_id], invited=False)
                changes.append(Change(None, queue(made, judge(facts), now), origin))
        await self._writer.write(changes, work)

    def _confirmation(
        self, act: Act, entry: Suppression, recipient: Recipient, origin: Origin, now: datetime
    ) -> Notification:
        """One for each time that it was stopped. Its id names the address only by the number of its stops."""
        return Notification(
            id=notification_id(SERVICE, f"{STOPPED}/{entry.id}/{entry.stops}", recipient.member_id),
            member_id=recipient.member_id,
            unit=recipient.unit,
            purpose=SERVICE,
            template=STOPPED,
            language=self._texts.language_for(STOPPED, recipient.language),
            channel=act.channel,
            state=State.QUEUED,
            cause=Cause(origin.correlation_id, origin.traceparent, origin.causation_id),
            created_at=now,
            updated_at=now,
            expires_at=now + CONFIRM_WITHIN,
        )

    def _count(self, begun: Sequence[tuple[Act, Suppression]]) -> None:
        for act, _ in begun:
            self._metrics.opt_outs.labels(act.channel, act.via).inc()


async def stage_about_members(
    events: Sequence[Event], sequences: MemberSequences, work: UnitOfWork, origin: Origin
) -> None:
    """Publish events whose subject is a member, each with the member's next number."""
    numbers: Mapping[str, int] = await sequences.take(Counter(e.subject for e in events), work.session)
    next_ = dict(numbers)
    for event in events:
        work.stage(event, next_[event.subject], origin)
        next_[event.subject] += 1
