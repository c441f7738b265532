"""Handlers of events that make an invite, or leave no reason for one.

Groups decides who is to be invited again, and how often at most. An invite is not made while the member's
welcome, or the invite that follows it, is on its way with the same link; and it does not go when the member
has come, has lost the seat or has left meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from services.notifications.core.core import Core
from services.notifications.core.domain import (
    INVITES,
    WELCOME,
    Cause,
    Notification,
    State,
    notification_id,
    queue,
    withdraw,
)
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import Rule, Ruling, Verdict, facts_heard, judge
from services.notifications.core.writing import Change
from services.shared.contracts.base import Envelope, Event, Step
from services.shared.contracts.groups import GroupInviteLapsed, GroupMemberObserved, GroupMemberRemoved
from services.shared.contracts.members import MemberErasureRequested, MemberLeft, MemberMerged
from services.shared.contracts.notifications import INVITE
from services.shared.contracts.vocabulary import Purpose
from services.shared.messaging import Origin, UnitOfWork

PURPOSE: Final = Purpose.REMINDER.value
WELCOME_PENDING: Final = "welcome_pending"


class InviteHandlers:
    def __init__(self, core: Core) -> None:
        self._recipients = core.recipients
        self._invites = core.invites
        self._notifications = core.notifications
        self._texts = core.texts
        self._clock = core.clock
        self._writer = core.writer
        self._lifetime = timedelta(days=core.settings.invite_days)

    async def lapsed(self, events: Sequence[Envelope[GroupInviteLapsed]], work: UnitOfWork) -> None:
        """Make an invite of each, once: its id follows from what it is for."""
        session = work.session
        wanted = {_id_of(event): event for event in events}
        there = await self._notifications.by_id(wanted, session)
        fresh = {id_: event for id_, event in wanted.items() if id_ not in there}
        if not fresh:
            return
        members = {event.subject for event in fresh.values()}
        recipients = await self._recipients.by_id(members, session)
        open_ = [n for n in await self._notifications.open_to(members, session) if n.purpose == WELCOME]
        groups = {event.data.group_id for event in fresh.values()}
        invited, _ = await self._invites.invited(groups, groups, session)
        changes: list[Change] = []
        for id_, event in fresh.items():
            recipient = recipients.get(event.subject, Recipient(event.subject))
            pending = any(
                n.member_id == event.subject and n.group_id in (None, event.data.group_id) for n in open_
            )
            step = self._made(id_, event, recipient, invited=event.data.group_id in invited, pending=pending)
            changes.append(Change(None, step, Origin.of(event)))
        await self._writer.write(changes, work)

    async def withdrawn(self, events: Sequence[Envelope[Event]], work: UnitOfWork) -> None:
        """End invites for which these events leave no reason: to the group, or to any."""
        members = [event.subject for event in events]
        open_ = [n for n in await self._notifications.open_to(members, work.session) if n.template in INVITES]
        changes: list[Change] = []
        for each in open_:
            ends = ((event, _reason(event.data, each)) for event in events)
            found = next(((event, reason) for event, reason in ends if reason is not None), None)
            if found is not None:
                event, reason = found
                step = withdraw(each, reason, self._clock.now())
                changes.append(Change(each, step, Origin.of(event)))
        await self._writer.write(changes, work)

    def _made(
        self,
        id_: str,
        event: Envelope[GroupInviteLapsed],
        recipient: Recipient,
        *,
        invited: bool,
        pending: bool,
    ) -> Step[Notification]:
        now, group_id = self._clock.now(), event.data.group_id
        made = Notification(
            id=id_,
            member_id=event.subject,
            unit=recipient.unit or event.data.unit,
            purpose=PURPOSE,
            template=INVITE,
            language=self._texts.language_for(INVITE, recipient.language),
            group_id=group_id,
            state=State.QUEUED,
            cause=Cause(event.correlation_id, event.traceparent, event.id),
            created_at=now,
            updated_at=now,
            expires_at=now + self._lifetime,
        )
        verdict = judge(facts_heard(made.about(now), recipient, invited=invited))
        if pending:
            rule = Rule("no_welcome_pending", {"pending": True}, Ruling.SUPPRESS, WELCOME_PENDING)
            verdict = Verdict((rule, *verdict.rules), verdict.channel)
        return queue(made, verdict, now)


def _id_of(event: Envelope[GroupInviteLapsed]) -> str:
    data = event.data
    return notification_id(PURPOSE, f"{INVITE}/{data.group_id}/{data.attempt}", data.member_id)


def _reason(event: Event, invite: Notification) -> str | None:
    """Why the event leaves no reason for the invite; None if it does not. One that follows a welcome is to
    whatever group the member has a seat in."""
    match event:
        case MemberLeft() | MemberErasureRequested() if event.member_id == invite.member_id:
            return "left"
        case MemberMerged() if event.member_id == invite.member_id:
            return "merged"
        case GroupMemberObserved() | GroupMemberRemoved():
            if (event.member_id, event.group_id) != (invite.member_id, invite.group_id):
                return None
            if isinstance(event, GroupMemberRemoved):
                return "no_seat" if invite.purpose == PURPOSE else None
            return event.state
        case _:
            return None
