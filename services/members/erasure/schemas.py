"""Erasures as answers show them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel

from services.members.core.erasing import SERVICES, Erasure, ErasureState
from services.members.erasure.service import Person

DUMPS_DAYS: Final = 35
"""Days for which a dump may be kept (docs/runbook.md)."""
IMPORTS_DAYS: Final = 7
STAYS: Final = (
    "events in the log: this id, unit codes, and coarse attributes (gender, language, platforms)",
    "this erasure, which keeps the member from coming back",
    "records of who looked: ids alone",
    "sums over many people",
)


class AcknowledgementShown(BaseModel):
    at: datetime
    destroyed: dict[str, int]


class RemovalShown(BaseModel):
    group_id: str
    done_at: datetime | None


class Expiring(BaseModel):
    """Copies that cannot be changed, and the time by which the last of them is gone."""

    what: str
    until: datetime


class Certificate(BaseModel):
    """Counts of what was destroyed, by service and kind; what stays; and what expires."""

    erasure_id: str
    member_id: str
    rule: str
    requested_at: datetime
    erased_at: datetime
    destroyed: dict[str, dict[str, int]]
    stays: list[str]
    expiring: list[Expiring]
    removals: list[RemovalShown]


class ErasureShown(BaseModel):
    """`acknowledgements` has null for a service that has not answered; `certificate` is there at the end."""

    id: str
    member_id: str
    unit: str
    rule: str
    state: str
    requested_at: datetime
    attempt: int
    acknowledgements: dict[str, AcknowledgementShown | None]
    removals: list[RemovalShown]
    sealed_until: datetime | None
    erased_at: datetime | None
    certificate: Certificate | None


class RemovalsShown(BaseModel):
    """Groups that the person must be removed from, and who it is as long as one is open."""

    name: str | None
    phone: str | None
    items: list[RemovalShown]


def erasure_view(erasure: Erasure) -> dict[str, Any]:
    """The values of an `ErasureShown`."""
    answers = {service: _answer(erasure, service) for service in SERVICES}
    return {
        "id": erasure.id,
        "member_id": erasure.member_id,
        "unit": erasure.unit,
        "rule": erasure.rule.value,
        "state": erasure.state.value,
        "requested_at": erasure.requested_at,
        "attempt": erasure.attempt,
        "acknowledgements": answers,
        "removals": _removals(erasure),
        "sealed_until": erasure.sealed_until,
        "erased_at": erasure.erased_at,
        "certificate": _certificate(erasure, answers),
    }


def removals_view(erasure: Erasure, person: Person | None) -> dict[str, Any]:
    who = {"name": person.name, "phone": person.phone} if person else {"name": None, "phone": None}
    return {**who, "items": _removals(erasure)}


def _certificate(erasure: Erasure, answers: Mapping[str, Any]) -> dict[str, Any] | None:
    if erasure.state is not ErasureState.ERASED:
        return None
    asked, erased = erasure.requested_at, erasure.erased_at
    assert erased is not None
    return {
        "erasure_id": erasure.id,
        "member_id": erasure.member_id,
        "rule": erasure.rule.value,
        "requested_at": asked,
        "erased_at": erased,
        "destroyed": {
            "members": dict(erasure.destroyed),
            **{service: each["destroyed"] if each else {} for service, each in answers.items()},
        },
        "stays": list(STAYS),
        "expiring": [
            {"what": "dumps taken until then, at the latest", "until": erased + timedelta(days=DUMPS_DAYS)},
            {"what": "plans and files of imports, sealed", "until": asked + timedelta(days=IMPORTS_DAYS)},
        ],
        "removals": _removals(erasure),
    }


def _answer(erasure: Erasure, service: str) -> dict[str, Any] | None:
    heard = getattr(erasure, service)
    return {"at": heard.at, "destroyed": dict(heard.destroyed)} if heard else None


def _removals(erasure: Erasure) -> list[dict[str, Any]]:
    return [{"group_id": each.group_id, "done_at": each.done_at} for each in erasure.removals]
