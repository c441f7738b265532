"""One click stops e-mails to the address that the message went to."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.core.suppressions.domain import MESSAGES, UNSUBSCRIBE, Act, suppression_id
from services.shared.contracts.vocabulary import Channel
from services.shared.errors import NotFoundError
from services.shared.messaging import Origin, UnitOfWork


class Unsubscribing:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def check(self, token: str) -> str:
        """The id of the notification whose link it is. Raises: `NotFoundError`."""
        await self._core.fingerprints.ready()
        notification_id = self._core.unsubscribe_links.read(token)
        if notification_id is None:
            raise NotFoundError
        return notification_id

    async def stop(self, token: str) -> None:
        """Stop messages to the e-mail address; again, it changes nothing.

        Raises: `NotFoundError` for a link that we have not made, or of a message whose record is gone (after
            90 days).
        """
        notification_id = await self.check(token)

        async def body(work: UnitOfWork) -> None:
            records = await self._core.deliveries.of_notification(notification_id, work.session)
            sent = [each for each in records if each.channel == Channel.EMAIL and each.to is not None]
            if not sent:
                raise NotFoundError
            record, now = sent[-1], self._core.clock.now()
            act = Act(
                suppression_id(record.channel, record.to or ""),
                record.channel,
                True,
                MESSAGES,
                UNSUBSCRIBE,
                now,
                record.member_id,
                record.unit,
            )
            await self._core.opting_out.act([act], work, Origin.here())

        await self._core.runtime.outbox.transact(body)
