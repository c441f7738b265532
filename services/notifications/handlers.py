"""What this service does when it hears of a member, of a member's seat or of a group's invite link.

Everything about a member goes one way, whatever the event: learn it, then bring the member's welcome into line. So
the order in which the topics arrive cannot matter. Each transaction that concerns a member writes the member's
recipient, and so two of them at once are one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from services.notifications.domain import WELCOME, Cause, Notification, State, Step, follow, welcome
from services.notifications.metrics import NotificationMetrics
from services.notifications.recipients import Recipient, learn
from services.notifications.store import Store
from services.notifications.texts import Texts
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupInviteChanged, GroupMemberAssigned, GroupSnapshot
from services.shared.contracts.members import MemberLeft, MemberUpdated
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork


class Handlers:
    """`due` is set when something may be sent; the dispatcher waits for it."""

    def __init__(
        self, store: Store, texts: Texts, clock: Clock, metrics: NotificationMetrics, due: asyncio.Event
    ) -> None:
        self._store = store
        self._texts = texts
        self._clock = clock
        self._metrics = metrics
        self._due = due

    async def member_changed(self, events: Sequence[Envelope[Event]], work: UnitOfWork) -> None:
        """Any event whose subject is a member."""
        known = await self._store.recipients([event.subject for event in events], work.session)
        learnt: dict[str, Recipient] = {}
        for event in events:
            before = known.get(event.subject, Recipient(event.subject))
            if (after := learn(before, event.data, event.sequence)) != before:
                learnt[event.subject] = after
        fresh = [event for event in events if event.subject in learnt]
        if not fresh:
            return
        await self._store.save_recipients(list(learnt.values()), work.session)
        await self._forget_contacts(fresh, work)
        await self._align(learnt, fresh, work)

    async def invite_changed(
        self, events: Sequence[Envelope[GroupInviteChanged | GroupSnapshot]], work: UnitOfWork
    ) -> None:
        """Let go what a missing link held, or hold what a withdrawn one would have gone with."""
        known = await self._store.invite_sequences([event.subject for event in events], work.session)
        fresh = [event for event in events if event.sequence > known.get(event.subject, 0)]
        if not fresh:
            return
        await self._store.save_invites(
            {event.subject: (event.data.invite_ready, event.sequence) for event in fresh}, work.session
        )
        await self._release({event.subject for event in fresh if event.data.invite_ready}, work)
        withdrawn = {event.subject for event in fresh if not event.data.invite_ready}
        if withdrawn:
            await self._store.hold(withdrawn, self._clock.now(), work.session)

    async def _release(self, group_ids: set[str], work: UnitOfWork) -> None:
        if group_ids and await self._store.release(group_ids, self._clock.now(), work.session):
            work.after_commit(self._due.set)

    async def _forget_contacts(self, events: Sequence[Envelope[Event]], work: UnitOfWork) -> None:
        stale = [event.subject for event in events if _makes_contact_stale(event.data)]
        if stale:
            await self._store.forget_contacts(stale, work.session)

    async def _align(
        self, recipients: Mapping[str, Recipient], events: Sequence[Envelope[Event]], work: UnitOfWork
    ) -> None:
        """Make the welcomes that are missing and bring the others into line with their recipients."""
        hinted = _hinted_groups(events)
        groups = {r.group_id for r in recipients.values() if r.group_id is not None} | hinted
        invited, newly = await self._store.invited(groups, hinted, work.session)
        welcomes = await self._store.welcomes(list(recipients), work.session)
        made: list[Notification] = []
        changed: list[Notification] = []
        for event in events:
            recipient = recipients[event.subject]
            before = welcomes.get(event.subject)
            step = self._step(before, recipient, recipient.group_id in invited, event)
            if step is None or step.notification == before:
                continue
            (made if before is None else changed).append(step.notification)
            if step.event is not None:
                work.stage(step.event, step.notification.sequence, Origin.of(event))
        await self._store.add(made, work.session)
        await self._store.save(changed, work.session)
        await self._release(newly, work)
        work.after_commit(lambda: self._note(welcomes, [*made, *changed]))

    def _step(
        self, current: Notification | None, recipient: Recipient, invited: bool, event: Envelope[Event]
    ) -> Step | None:
        """None for who has not joined as far as we know: the event that says so is on its way, or we have lost it with
        what we did then, and who joined long ago is not welcomed now."""
        now = self._clock.now()
        language = self._texts.language_for(WELCOME, recipient.language)
        if current is not None and recipient.introduced:
            return follow(current, recipient, invited=invited, language=language, now=now)
        if current is not None or not recipient.joined:
            return None
        cause = Cause(event.correlation_id, event.traceparent, event.id)
        return welcome(new_id(), recipient, invited=invited, language=language, cause=cause, now=now)

    def _note(self, before: Mapping[str, Notification], after: Sequence[Notification]) -> None:
        """Count the states entered, and wake the dispatcher."""
        entered = [n for n in after if (b := before.get(n.member_id)) is None or b.state is not n.state]
        self._metrics.entered(entered)
        if any(n.state is State.QUEUED and n.due_at is not None for n in after):
            self._due.set()


def _makes_contact_stale(event: Event) -> bool:
    return isinstance(event, MemberLeft) or (isinstance(event, MemberUpdated) and event.contact_changed)


def _hinted_groups(events: Sequence[Envelope[Event]]) -> set[str]:
    """Groups that had an invite link when a member was assigned to them."""
    assigned = (event.data for event in events)
    return {data.group_id for data in assigned if isinstance(data, GroupMemberAssigned) and data.invite_ready}
