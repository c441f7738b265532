"""Handlers of events about a member, a member's seat or a group's invite link.

Every event about a member is handled in one way: learn it, then bring the member's welcome into line. So the
order in which the topics arrive cannot matter. Each transaction that concerns a member writes the member's
recipient, and so two of them that meet run one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from services.notifications.core.core import Core
from services.notifications.core.domain import (
    WELCOME,
    Cause,
    Notification,
    State,
    follow,
    promised_id,
    queue_welcome,
)
from services.notifications.core.recipients import Recipient, learn
from services.notifications.core.writing import Change
from services.shared.contracts.base import Envelope, Event, Step
from services.shared.contracts.groups import GroupInviteChanged, GroupMemberAssigned, GroupSnapshot
from services.shared.contracts.members import MemberMerged
from services.shared.messaging import Origin, UnitOfWork, newer, without_leaps


class WelcomeHandlers:
    def __init__(self, core: Core) -> None:
        self._recipients = core.recipients
        self._invites = core.invites
        self._notifications = core.notifications
        self._texts = core.texts
        self._clock = core.clock
        self._writer = core.writer
        self._due = core.due
        self._patience = core.patience
        self._promises = core.promises

    async def member_changed(self, events: Sequence[Envelope[Event]], work: UnitOfWork) -> None:
        """Any event whose subject is a member."""
        known = await self._recipients.by_id([event.subject for event in events], work.session)
        learnt: dict[str, Recipient] = {}
        topic = events[0].data.topic
        for event in without_leaps(events, lambda id_: known[id_].heard(topic) if id_ in known else 0, work):
            before = known.get(event.subject, Recipient(event.subject))
            if (after := learn(before, event.data, event.sequence)) != before:
                learnt[event.subject] = after
        fresh = [event for event in events if event.subject in learnt]
        if not fresh:
            return
        await self._recipients.save(list(learnt.values()), work.session)
        await self._align(learnt, {event.subject: event for event in fresh}, work)

    async def member_merged(self, events: Sequence[Envelope[MemberMerged]], work: UnitOfWork) -> None:
        """The merged member gets nothing any more; whoever stands for them gets no second welcome."""
        await self.member_changed(events, work)
        welcomes = await self._notifications.welcomes([event.subject for event in events], work.session)
        heirs = {
            event.data.into: event
            for event in events
            if (welcome := welcomes.get(event.subject)) and welcome.state in (State.SENT, State.SENDING)
        }
        if not heirs:
            return
        known = await self._recipients.by_id(heirs, work.session)
        welcomed = {id_: replace(known.get(id_, Recipient(id_)), welcomed=True) for id_ in heirs}
        await self._recipients.save(list(welcomed.values()), work.session)
        await self._align(welcomed, heirs, work)
        await self._promise_again(heirs, welcomes, work)

    async def _promise_again(
        self,
        heirs: Mapping[str, Envelope[MemberMerged]],
        welcomes: Mapping[str, Notification],
        work: UnitOfWork,
    ) -> None:
        """Promise the heirs the invite that was promised to the merged, unless either has had a link."""
        owed = {id_: event for id_, event in heirs.items() if welcomes[event.subject].without}
        if not owed:
            return
        theirs = await self._notifications.welcomes(owed, work.session)
        ids = [promised_id(event.subject) for event in owed.values()]
        promised = await self._notifications.by_id(ids, work.session)
        went = {State.SENT, State.SENDING}
        had_link = {n.member_id for n in promised.values() if n.state in went}
        had_link |= {id_ for id_, n in theirs.items() if n.state in went and not n.without}
        causes = {
            id_: Cause(event.correlation_id, event.traceparent, event.id)
            for id_, event in owed.items()
            if not had_link & {id_, event.subject}
        }
        await self._promises.keep(causes, work)

    async def invite_changed(
        self, events: Sequence[Envelope[GroupInviteChanged | GroupSnapshot]], work: UnitOfWork
    ) -> None:
        """Release what waits for a link that is there now; hold what would go with a withdrawn link."""
        known = await self._invites.sequences([event.subject for event in events], work.session)
        fresh = newer(events, lambda id_: known.get(id_, 0), work)
        if not fresh:
            return
        await self._invites.save(
            {event.subject: (event.data.invite_ready, event.sequence) for event in fresh}, work.session
        )
        await self._release({event.subject for event in fresh if event.data.invite_ready}, work)
        withdrawn = {event.subject for event in fresh if not event.data.invite_ready}
        if withdrawn:
            await self._notifications.hold(withdrawn, self._clock.now(), work.session)

    async def _release(self, group_ids: set[str], work: UnitOfWork) -> None:
        if group_ids and await self._notifications.release(group_ids, self._clock.now(), work.session):
            work.after_commit(self._due.set)

    async def _align(
        self, recipients: Mapping[str, Recipient], causes: Mapping[str, Envelope[Event]], work: UnitOfWork
    ) -> None:
        """Make the welcomes that are missing and bring the others, and the invites that follow them, into
        line with their recipients. `causes` has the event that changed each."""
        hinted = _hinted_groups(causes.values())
        groups = {r.group_id for r in recipients.values() if r.group_id is not None} | hinted
        invited, newly = await self._invites.invited(groups, hinted, work.session)
        welcomes = await self._notifications.welcomes(list(recipients), work.session)
        promised = await self._promised(welcomes, work)
        changes: list[Change] = []
        for member_id, event in causes.items():
            recipient = recipients[member_id]
            for before in [welcomes.get(member_id), *promised.get(member_id, ())]:
                step = self._step(before, recipient, recipient.group_id in invited, event)
                if step is not None:
                    changes.append(Change(before, step, Origin.of(event)))
        await self._writer.write(changes, work)
        await self._release(newly, work)

    async def _promised(
        self, welcomes: Mapping[str, Notification], work: UnitOfWork
    ) -> dict[str, list[Notification]]:
        """The invites that follow those of the welcomes that went without one, by member."""
        ids = [promised_id(member_id) for member_id, welcome in welcomes.items() if welcome.without]
        found = await self._notifications.by_id(ids, work.session) if ids else {}
        return {n.member_id: [n] for n in found.values()}

    def _step(
        self, current: Notification | None, recipient: Recipient, invited: bool, event: Envelope[Event]
    ) -> Step[Notification] | None:
        """None when the member's `member.joined` is unknown.

        It is still on its way, or was lost together with what it led to; and a member who joined long ago is
        not welcomed now.
        """
        now = self._clock.now()
        template = current.template if current is not None else WELCOME
        language = self._texts.language_for(template, recipient.language)
        if current is not None and recipient.introduced:
            return follow(current, recipient, invited=invited, language=language, now=now)
        if current is not None or not recipient.joined:
            return None
        cause = Cause(event.correlation_id, event.traceparent, event.id)
        return queue_welcome(
            recipient,
            invited=invited,
            language=language,
            cause=cause,
            now=now,
            patience=self._patience,
        )


def _hinted_groups(events: Iterable[Envelope[Event]]) -> set[str]:
    """Groups that had an invite link when a member was assigned to them."""
    assigned = (event.data for event in events)
    return {data.group_id for data in assigned if isinstance(data, GroupMemberAssigned) and data.invite_ready}
