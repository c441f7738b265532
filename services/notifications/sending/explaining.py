"""Explains whether a message would go: the dispatcher's own code, for any time, without sending."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.notifications.core.channel import Gateways, Sender
from services.notifications.core.core import Core
from services.notifications.core.domain import Cause, Notification, State
from services.notifications.core.policies.domain import SERVICE, Policies
from services.notifications.core.send_policy import Ruling, Verdict
from services.notifications.sending.asking import Asking, NotAnswered
from services.notifications.sending.composing import Composer
from services.notifications.sending.routing import approving, senders_of
from services.shared.contracts.notifications import INVITE
from services.shared.contracts.vocabulary import Channel, Purpose
from services.shared.errors import FieldError, InvalidError, NotFoundError, TransientError, UnavailableError
from services.shared.identity import Identity

RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a message of this purpose would go to the member: on this channel, or on any."""

    member_id: str
    purpose: str
    channel: Channel | None
    at: datetime | None
    certificate: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    question: Question
    at: datetime
    verdict: Verdict
    policies: Policies


class Explaining:
    def __init__(self, core: Core, sender: Sender | Gateways) -> None:
        self._recipients = core.recipients
        self._policies = core.policies
        self._clock = core.clock
        self._asking = Asking(core, sender)
        self._texts = core.texts
        self._composer = Composer(core.texts, senders_of(sender), approving(sender))

    async def explain(self, caller: Identity, question: Question) -> Explanation:
        """Judge by the facts of now, at the time that the question names.

        Raises: `NotFoundError` for a member who is unknown or outside the caller's units; `InvalidError` for
            a service message without a channel; `UnavailableError` when members or groups does not answer.
        """
        if question.purpose == SERVICE and question.channel is None:
            detail = "is needed: a service message goes on the channel on which the person has written"
            raise InvalidError([FieldError("/channel", detail, "query")])
        recipient = (await self._recipients.by_id([question.member_id])).get(question.member_id)
        if recipient is None:
            raise NotFoundError
        caller.check_access(recipient.unit)
        await self._texts.refresh()
        policies, now = await self._policies.current(), self._clock.now()
        at = question.at or now
        notification = _imagined(question, recipient.group_id, recipient.unit, now)
        try:
            answer = (await self._asking.ask([(notification, recipient)], policies, at))[notification.id]
        except TransientError:
            raise _unanswered("members or groups") from None
        if isinstance(answer, NotAnswered):
            if answer.reason is None:
                raise NotFoundError
            raise _unanswered(answer.peer)
        caller.check_access(answer.contact.unit)
        asked = replace(answer, certificate=question.certificate)
        verdict = self._composer.judge(asked, at, policies, only=question.channel).verdict
        if verdict.ruling is Ruling.ALLOW and verdict.channel is not None:
            asked = await self._asking.look_at_limits(asked, verdict.channel, policies, at)
            verdict = self._composer.judge(asked, at, policies, only=question.channel).verdict
        return Explanation(question, at, verdict, policies)


def _unanswered(peer: str) -> UnavailableError:
    return UnavailableError("peer-not-answering", f"{peer} does not answer about this member", RETRY_SECONDS)


def _imagined(question: Question, group_id: str | None, unit: str, now: datetime) -> Notification:
    """The message as it would be made now."""
    invites = question.purpose == Purpose.REMINDER
    return Notification(
        id="imagined",
        member_id=question.member_id,
        unit=unit,
        purpose=question.purpose,
        template=INVITE if invites else question.purpose,
        language="hi",
        channel=question.channel,
        group_id=group_id,
        state=State.QUEUED,
        cause=Cause("", ""),
        created_at=now,
        updated_at=now,
    )
