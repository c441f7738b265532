"""Templates as requests ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from services.notifications.core.core import Core
from services.notifications.core.domain import Cause, Notification, State, notification_id, queue
from services.notifications.core.policies.domain import SERVICE
from services.notifications.core.send_policy import facts_heard, judge
from services.notifications.core.templates.catalogue import FALLBACK, TEST, known, samples
from services.notifications.core.templates.domain import (
    Approval,
    Rendered,
    TextVersion,
    Unfit,
    Wording,
    approval_faults,
    is_name,
    text_id,
    wording_faults,
)
from services.notifications.core.templates.grammar import UnrenderableError
from services.notifications.core.templates.prices import price_of
from services.notifications.core.texts import Entry, Text
from services.notifications.templates.domain import Shown, plain_length, sms_length, sms_notes
from services.shared.contracts.vocabulary import Channel
from services.shared.database.idempotency import IdempotentRequest, MadeIds
from services.shared.errors import ConflictError, FieldError, InvalidError, NotFoundError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork

TEST_WITHIN: Final = timedelta(hours=1)
"""How long a test may wait: nobody looks for it later."""


class TemplateService:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._texts = core.texts
        self._store = core.templates
        self._changes = core.template_changes
        self._outbox = core.runtime.outbox
        self._made = MadeIds(core.runtime.database, core.clock)
        self.currency = core.settings.price_currency

    def now(self) -> datetime:
        return self._core.clock.now()

    async def page(self, after: tuple[str, str] | None, limit: int) -> Sequence[Entry]:
        """By name and language."""
        await self._texts.refresh()
        found = self._texts.entries()
        if after is not None:
            found = [e for e in found if (e.newest.version.name, e.newest.version.language) > after]
        return found[:limit]

    async def get(self, name: str, language: str) -> Entry:
        """Raises: `NotFoundError`."""
        await self._texts.refresh()
        entry = self._texts.entry(name, language)
        if entry is None:
            raise NotFoundError
        return entry

    async def versions(
        self, name: str, language: str, before: int | None, limit: int
    ) -> Sequence[TextVersion]:
        """The newest first. Raises: `NotFoundError`."""
        await self.get(name, language)
        return await self._store.versions(name, language, limit, before)

    async def put(
        self,
        caller: Identity,
        name: str,
        language: str,
        wording: Wording,
        check: Callable[[int | None], None],
    ) -> tuple[TextVersion, bool]:
        """The newest version, and whether it is new. `check` is asked whether it may follow the one before.

        Raises: `NotFoundError` for a caller without all units; `InvalidError`; what `check` raises;
            `ConflictError` for a language before Hindi.
        """
        caller.check_all_units()
        if not is_name(name):
            raise InvalidError([FieldError("/name", "is kept for tests", "path")])
        _check(wording_faults(name, wording))

        async def body(work: UnitOfWork) -> tuple[TextVersion, bool]:
            stored = await self._store.versions(name, language, 1, session=work.session)
            newest = stored[0] if stored else self._texts.shipped(name, language)
            check(newest.version if newest else None)
            if newest is not None and newest.wording == wording:
                return newest, False
            if newest is None and language != FALLBACK:
                await self._check_fallback(name, work)
            version = self._version(name, language, (newest.version if newest else 0) + 1, wording, caller)
            await self._changes.add(version, work)
            return version, True

        made = await self._outbox.transact(body)
        await self._texts.refresh()
        return made

    async def approve(
        self, caller: Identity, name: str, language: str, version: int, approval: Approval
    ) -> TextVersion:
        """Register an approval; answers the version that it is of.

        Raises: `NotFoundError` for a version that there is not, or a caller without all units;
            `InvalidError`.
        """
        caller.check_all_units()

        async def body(work: UnitOfWork) -> TextVersion:
            found = await self._store.version(name, language, version, work.session)
            shipped = self._texts.shipped(name, language)
            if found is None and version == 0 and shipped is not None:
                if await self._store.versions(name, language, 1, session=work.session):
                    detail = "operators have put versions of this text; approve one of them"
                    raise ConflictError("version-replaced", detail)
                _check(approval_faults(shipped, approval))
                copied = self._version(name, language, 1, shipped.wording, caller)
                copied = replace(copied, approvals=(approval,))
                await self._changes.add(copied, work)
                return copied
            if found is None:
                raise NotFoundError("there is no such version")
            _check(approval_faults(found, approval))
            await self._changes.approve(found.id, approval, work)
            others = [each for each in found.approvals if each.channel != approval.channel]
            return replace(found, approvals=(*others, approval))

        made = await self._outbox.transact(body)
        await self._texts.refresh()
        return made

    async def preview(
        self, name: str, language: str, values: Mapping[str, str], wording: Wording | None
    ) -> Sequence[Shown]:
        """The text on each channel: what is stored or, with `wording`, that.

        Raises: `NotFoundError` when there is no such text; `InvalidError`.
        """
        _check(
            ("values", f"must be of {', '.join(known(name).variables)}")
            for each in values
            if each not in known(name).variables
        )
        if wording is not None:
            _check(wording_faults(name, wording))
            text = Text.of(self._draft(name, language, wording))
            given = {**samples(name, language), **values}
            return [self._shown(c, _rendered(text, c, given), draft=True) for c in Channel]
        await self._texts.refresh()
        return [self._stored(name, language, channel.value, values) for channel in Channel]

    async def test(
        self,
        caller: Identity,
        name: str,
        member_id: str,
        channel: str,
        request: IdempotentRequest | None,
        origin: Origin,
    ) -> str:
        """Queue a test to a member of the caller's units; its notification's id.

        Raises: `NotFoundError` (text or member), `KeyReusedError`.
        """
        await self._texts.refresh()
        if self._texts.entry(name, FALLBACK) is None:
            raise NotFoundError
        recipient = (await self._core.recipients.by_id([member_id])).get(member_id)
        if recipient is None:
            raise NotFoundError
        caller.check_access(recipient.unit)
        now = self.now()
        made = Notification(
            id=notification_id(SERVICE, f"{TEST}{name}/{new_id()}", member_id),
            member_id=member_id,
            unit=recipient.unit,
            purpose=SERVICE,
            template=TEST + name,
            language=self._texts.language_for(name, recipient.language),
            channel=channel,
            state=State.QUEUED,
            cause=Cause(origin.correlation_id, origin.traceparent, origin.causation_id),
            created_at=now,
            updated_at=now,
            expires_at=now + TEST_WITHIN,
        )
        step = queue(made, judge(facts_heard(made.about(now), recipient, invited=False)), now)

        async def body(work: UnitOfWork) -> bool:
            if not await self._made.remember(request, made.id, work.session):
                return False
            await self._core.notifications.add([step.state], work.session)
            work.stage_all(step.events, origin)
            work.after_commit(self._core.due.set)
            return True

        if await self._outbox.transact(body):
            self._core.metrics.entered([step.state])
            return made.id
        earlier = await self._made.earlier(request)
        assert earlier is not None
        return earlier

    async def _check_fallback(self, name: str, work: UnitOfWork) -> None:
        if self._texts.shipped(name, FALLBACK) is None and not await self._store.versions(
            name, FALLBACK, 1, session=work.session
        ):
            raise ConflictError("no-hindi-text", "write the text in Hindi first: others fall back to it")

    def _version(
        self, name: str, language: str, version: int, wording: Wording, caller: Identity
    ) -> TextVersion:
        return TextVersion(
            id=text_id(name, language, version),
            name=name,
            language=language,
            version=version,
            wording=wording,
            created_at=self.now(),
            created_by=caller.subject,
        )

    def _draft(self, name: str, language: str, wording: Wording) -> TextVersion:
        return TextVersion(id="", name=name, language=language, version=0, wording=wording)

    def _stored(self, name: str, language: str, channel: str, values: Mapping[str, str]) -> Shown:
        """As a gateway would get it that takes approved templates only; else as it would go without one."""
        try:
            given = {**samples(name, language), **values}
            reason: Unfit | None = None
            made = self._texts.compose(name, language, channel, given, approved=channel != Channel.EMAIL)
            if isinstance(made, Unfit):
                reason, made = made, self._texts.compose(name, language, channel, given)
        except UnrenderableError:
            raise NotFoundError from None
        assert isinstance(made, Rendered)
        return self._shown(channel, made, reason)

    def _shown(
        self, channel: str, made: Rendered, reason: Unfit | None = None, *, draft: bool = False
    ) -> Shown:
        sms = channel == Channel.SMS
        length = sms_length(made.text) if sms else plain_length(made.text)
        category = made.approved.category if made.approved else None
        price = price_of(self._core.settings.message_prices, channel, category, self.now().date())
        notes = sms_notes(made.text) if sms else []
        if sms and "STOP" not in made.text.upper():
            notes.append("names no STOP: every SMS needs a way to stop, be it a link or a number")
        if reason is Unfit.NOT_APPROVED:
            notes.append("no version is approved on this channel; gateways that ask for it will not send it")
        elif reason is Unfit.NOT_EXACT:
            most = self._core.settings.dlt_value_characters
            notes.append(f"a value is longer than its place allows: {most} characters in each {{#var#}}")
        return Shown(
            channel=channel,
            language=made.language,
            version=None if draft else made.version,
            length=length,
            cost=None if price is None else price * length.parts,
            reason=None if reason is None else reason.value,
            notes=notes,
            text=made.text,
            subject=made.subject,
            html=made.html,
        )


def _rendered(text: Text, channel: str, values: Mapping[str, str]) -> Rendered:
    """Raises: `InvalidError`."""
    try:
        return text.rendered(channel, values)
    except UnrenderableError:
        raise InvalidError([FieldError("/text", "cannot be rendered")]) from None


def _check(found: Iterable[tuple[str, str]]) -> None:
    if fields := [FieldError(f"/{of}", detail) for of, detail in found]:
        raise InvalidError(fields)
