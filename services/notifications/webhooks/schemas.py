"""Answers to operators about callbacks, opt-outs and callers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.notifications.core.suppressions.domain import Suppression
from services.notifications.webhooks.service import Caller
from services.notifications.webhooks.store import Buried


class BuriedOut(BaseModel):
    """`reason` is `unreadable` (not of this provider) or `not_applied` (a part of it)."""

    id: str
    source: str
    reason: str
    size: int
    received_at: datetime


class InferredOut(BaseModel):
    """`code` is the gateway's word; `member_id` is null after an erasure."""

    id: str
    channel: str
    member_id: str | None
    code: str | None
    at: datetime


class CallerOut(BaseModel):
    id: str
    phone: str
    at: datetime


def buried_out(buried: Buried) -> dict[str, Any]:
    return buried._asdict()


def inferred_out(entry: Suppression) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in InferredOut.model_fields}


def caller_out(caller: Caller) -> dict[str, Any]:
    return {"id": caller.id, "phone": caller.phone, "at": caller.at}
