"""The invite that follows a welcome which went without one: made once, in the transaction that needs it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from services.notifications.core.domain import Cause, promised_id, queue_promised
from services.notifications.core.recipients import Recipient
from services.notifications.core.store import InviteStore, NotificationStore, RecipientStore
from services.notifications.core.texts import Texts
from services.notifications.core.writing import Change, NotificationWriter
from services.shared.clock import Clock
from services.shared.contracts.notifications import PROMISED
from services.shared.messaging import Origin, UnitOfWork


class Promises:
    """`lives` is how long one may wait for a link."""

    def __init__(
        self,
        recipients: RecipientStore,
        invites: InviteStore,
        notifications: NotificationStore,
        writer: NotificationWriter,
        texts: Texts,
        clock: Clock,
        lives: timedelta,
    ) -> None:
        self._recipients = recipients
        self._invites = invites
        self._notifications = notifications
        self._writer = writer
        self._texts = texts
        self._clock = clock
        self._lives = lives

    async def keep(self, causes: Mapping[str, Cause], work: UnitOfWork) -> None:
        """Make the invite of each of these members, unless there is one. `causes` are by member.

        The transaction writes the member's welcome or recipient anyway, and here the rows of groups without a
        link: a seat or a link that comes at this moment conflicts, and one of the two runs again. Otherwise
        the invite would wait for what is there.
        """
        if not causes:
            return
        there = await self._notifications.by_id([promised_id(id_) for id_ in causes], work.session)
        wanted = {id_: cause for id_, cause in causes.items() if promised_id(id_) not in there}
        if not wanted:
            return
        recipients = await self._recipients.by_id(wanted, work.session)
        groups = {r.group_id for r in recipients.values() if r.group_id is not None}
        invited, _ = await self._invites.invited(groups, (), work.session)
        now, changes = self._clock.now(), []
        for member_id, cause in wanted.items():
            recipient = recipients.get(member_id, Recipient(member_id))
            step = queue_promised(
                recipient,
                invited=recipient.group_id in invited,
                language=self._texts.language_for(PROMISED, recipient.language),
                cause=cause,
                now=now,
                expires_at=now + self._lives,
            )
            origin = Origin(cause.correlation_id, cause.traceparent, cause.causation_id)
            changes.append(Change(None, step, origin))
        await self._writer.write(changes, work)
