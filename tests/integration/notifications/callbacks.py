"""A provider made up for tests: its callbacks are JSON lists of updates."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
from pydantic import TypeAdapter

from infra.local.keys import Keys
from services.notifications.core.channel import Message
from services.notifications.core.deliveries.domain import DeliveryRecord, reference
from services.notifications.core.domain import SendOutcome
from services.notifications.core.updates import (
    Asked,
    Callback,
    IdentityChanged,
    Inbound,
    Notice,
    PreferenceChanged,
    Report,
    Update,
)
from services.notifications.webhooks.applier import Applier
from services.shared.ids import new_id

if TYPE_CHECKING:
    from tests.integration.notifications.conftest import Bench

APP_SECRET = "an_app_secret_for_tests"
SMS_SECRET = "a_secret_in_a_url_for_tests"
KINDS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Report, Inbound, IdentityChanged, PreferenceChanged, Notice)
}


@dataclass
class FakeGateway:
    """`parsed` counts the callbacks that were read."""

    name: str
    account: str = "acct"
    number: str = "a number of ours"
    polls: bool = False
    approved_only: bool = False
    parsed: int = 0
    unreadable: set[str] = field(default_factory=set)

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        raise NotImplementedError

    async def poll(self, messages: Sequence[Asked]) -> Sequence[Report]:
        return []

    async def close(self) -> None: ...

    def parse(self, callback: Callback) -> Sequence[Update]:
        """Raises: `ValueError`."""
        self.parsed += 1
        return [KINDS[each.pop("is")].validate_python(each) for each in json.loads(callback.body)]


def body_of(*updates: Update) -> bytes:
    rows = []
    for update in updates:
        kind = type(update).__name__
        rows.append({"is": kind, **KINDS[kind].dump_python(update, mode="json")})
    return json.dumps(rows).encode()


def signed(body: bytes, secret: str = APP_SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={digest}", "content-type": "application/json"}


class Hooks:
    """A process whose callbacks are received and applied turn by turn."""

    def __init__(self, bench: Bench, gateways: dict[str, FakeGateway], keys: Keys | None = None) -> None:
        self.bench = bench
        self._keys = keys
        self.gateways = gateways
        self.database = bench.database
        transport = httpx2.ASGITransport(app=bench.service.app, raise_app_exceptions=False)
        self.http = httpx2.AsyncClient(transport=transport, base_url="http://test")
        [run] = [f.loops["callbacks"] for f in bench.service.features if "callbacks" in f.loops]
        self.applier: Applier = run.__self__  # type: ignore[attr-defined]

    async def receive(self, *updates: Update, source: str = "whatsapp") -> None:
        """A callback is stored; the clock of MongoDB is read, as it is when a service starts."""
        await self.bench.runtime.server_clock.read()
        body = body_of(*updates)
        if source == "whatsapp":
            answer = await self.http.post("/webhooks/whatsapp", content=body, headers=signed(body))
        else:
            answer = await self.http.post(f"/webhooks/{source}/{SMS_SECRET}", content=body)
        assert answer.status_code == 200, answer.text

    async def apply(self) -> None:
        while await self.applier.apply():
            pass

    async def tell(self, *updates: Update, source: str = "whatsapp") -> None:
        await self.receive(*updates, source=source)
        await self.apply()

    async def passes(self, collection: str, time: timedelta) -> None:
        ms = time / timedelta(milliseconds=1)
        older = {
            name: {"$ifNull": [{"$subtract": [f"${name}", ms]}, "$$REMOVE"]}
            for name in ("due_at", "give_up_at")
        }
        await self.database[collection].update_many({}, [{"$set": older}])

    async def sent_to(
        self,
        member_id: str,
        phone: str,
        *,
        channel: str = "whatsapp",
        sender: str = "cloud_api",
        **changed: Any,
    ) -> DeliveryRecord:
        """A message was handed to the provider."""
        await self.bench.core.fingerprints.ready()
        now = self.bench.core.clock.now()
        notification_id = new_id()
        fields: dict[str, Any] = {
            "id": reference(notification_id, 1),
            "notification_id": notification_id,
            "member_id": member_id,
            "unit": "BR-SARAN",
            "purpose": "welcome",
            "channel": channel,
            "sender": sender,
            "account": "acct",
            "sent_from": "a number of ours",
            "reached": {},
            "to": self.bench.core.fingerprints.of(channel, phone),
            "provider_id": f"wamid.{secrets.token_hex(8)}",
            "created_at": now,
            "changed_at": now,
        }
        record = DeliveryRecord(**(fields | changed))
        await self.bench.core.deliveries.begin([record])
        return record

    async def delivery(self, record: DeliveryRecord) -> DeliveryRecord:
        return (await self.bench.core.deliveries.by_reference([record.id]))[record.id]

    def token(self, scopes: str, unit: str = "*") -> str:
        assert self._keys is not None
        return self._keys.mint(scopes, unit)

    def value(self, metric: str, **labels: str) -> float:
        return self.bench.runtime.registry.get_sample_value(metric, labels) or 0.0

    def now(self) -> datetime:
        return self.bench.core.clock.now()
