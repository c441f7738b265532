"""Intake: a callback is stored as it came and answered at once; nothing of it is read before.

Concurrent callbacks share one insert, as registrations share a transaction: at 300 a second, a write for each
would be most of the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from services.notifications.core.core import Core
from services.notifications.webhooks.metrics import WebhookMetrics
from services.notifications.webhooks.signatures import callback_id, is_signed, same_secret
from services.notifications.webhooks.store import CallbackStore, StoredCallback
from services.shared.errors import NotFoundError, UnavailableError
from services.shared.messaging import GroupCommit

WHATSAPP: Final = "whatsapp"
SMS: Final = "sms/"
MAX_BODY: Final = 4 * 1024 * 1024
"""WhatsApp sends up to 3 MB in one callback (facts of the field, A1)."""
LARGE: Final = 256 * 1024
"""Bytes whose digests take longer than other requests should wait."""
MAX_MEDIA_TYPE: Final = 200


class RefusedError(Exception):
    """The signature is missing or wrong."""


class _Received(NamedTuple):
    id: str
    source: str
    media_type: str
    body: bytes


class Room:
    """The bytes of one body that have come so far."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.bytes = 0

    def add(self, piece: bytes) -> None:
        """Raises: `UnavailableError`."""
        self._intake.hold(len(piece), large=self.bytes + len(piece) > LARGE)
        self.bytes += len(piece)


class Intake:
    def __init__(
        self, core: Core, callbacks: CallbackStore, sources: frozenset[str], metrics: WebhookMetrics
    ) -> None:
        """`sources` are those whose callbacks can be read; others are answered as unknown."""
        settings = core.settings
        self._sources = sources
        self._app_secret = settings.whatsapp_app_secret
        self._verify_token = settings.whatsapp_verify_token
        self._sms = settings.sms_callback_secrets
        self._callbacks = callbacks
        self._vault = core.vault
        self._clock = core.clock
        self._metrics = metrics
        self._most_bytes = settings.callback_body_megabytes * 1024 * 1024
        self._bytes = 0
        self._commit = GroupCommit(self._store, core.runtime.metrics, writers=2)
        self.close = self._commit.close
        self.stored = asyncio.Event()
        """Set when this process has stored a callback."""

    def challenge(self, mode: str, token: str, challenge: str) -> str:
        """The answer to WhatsApp's challenge.

        Raises: `NotFoundError` if no token is set, `RefusedError`.
        """
        if self._verify_token is None or WHATSAPP not in self._sources:
            raise NotFoundError
        if not same_secret(token, self._verify_token) or mode != "subscribe":
            raise RefusedError
        return challenge

    def expects_whatsapp(self) -> None:
        """Raises: `NotFoundError`."""
        if self._app_secret is None or WHATSAPP not in self._sources:
            raise NotFoundError

    def expects_sms(self, gateway: str, secret: str) -> None:
        """Raises: `NotFoundError` for an unknown gateway and for a wrong secret, which look the same."""
        expected = self._sms.get(gateway)
        if not same_secret(secret, expected or "") or expected is None or SMS + gateway not in self._sources:
            raise NotFoundError

    @contextmanager
    def room(self) -> Iterator[Room]:
        """Room for one body while it comes. Nobody knows yet whose it is, so all share it."""
        held = Room(self)
        try:
            yield held
        finally:
            self._bytes -= held.bytes

    def hold(self, length: int, *, large: bool) -> None:
        """Raises: `UnavailableError`; senders try again. Large bodies may have three quarters of the room, so
        that few of them cannot keep out the many small ones."""
        most = self._most_bytes * 3 // 4 if large else self._most_bytes
        if self._bytes + length > most:
            raise UnavailableError("overloaded", "too many callbacks are coming in; send it again", 5)
        self._bytes += length

    async def is_signed(self, body: bytes, signature: str | None) -> bool:
        """Whether a body is WhatsApp's."""
        assert self._app_secret is not None, "expects_whatsapp"
        if len(body) < LARGE:
            signed = is_signed(body, signature, self._app_secret)
        else:
            signed = await asyncio.to_thread(is_signed, body, signature, self._app_secret)
        if not signed:
            self._metrics.received.labels("refused").inc()
        return signed

    async def take(self, source: str, body: bytes, media_type: str) -> None:
        """Store a callback whose sender is known. On return it is durable.

        Raises: whatever MongoDB raises.
        """
        if len(body) < LARGE:
            id_ = callback_id(source, body)
        else:
            id_ = await asyncio.to_thread(callback_id, source, body)
        fresh = await self._commit.submit(_Received(id_, source, media_type[:MAX_MEDIA_TYPE], body))
        self._metrics.received.labels("stored" if fresh else "repeated").inc()

    async def _store(self, received: Sequence[_Received]) -> Sequence[bool]:
        once = {each.id: each for each in received}
        sealed = await self._vault.seal((each.id, {"body": each.body}) for each in once.values())
        now = self._clock.now()
        fresh = await self._callbacks.add(
            [
                StoredCallback(each.id, each.source, each.media_type, len(each.body), content, now)
                for each, content in zip(once.values(), sealed, strict=True)
            ]
        )
        if fresh:
            self.stored.set()
        answered: set[str] = set()
        results: list[bool] = []
        for each in received:
            results.append(each.id in fresh and each.id not in answered)
            answered.add(each.id)
        return results
