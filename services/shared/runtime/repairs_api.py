"""The operations API of a repair (scope `ops:write`): a consumer forgets how far it knows some subjects, and
their authority publishes them again, so that the consumer learns them anew.

`ops repair` calls both. Only sequences are forgotten, never effects; so a repair can be repeated, and nothing
is counted or sent twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field, Strict

from services.shared.database import Database, Session
from services.shared.http.auth import require
from services.shared.http.body import JSON, Body, Route
from services.shared.http.values import Canonical
from services.shared.identity import Identity
from services.shared.messaging import Origin, Outbox, UnitOfWork
from services.shared.runtime.snapshots import Source, snapshots_of

log = structlog.get_logger(__name__)

Operator = Annotated[Identity, Depends(require("ops:write", everywhere=True))]
Subject = Annotated[str, Field(min_length=1, max_length=64), Canonical]
MAX_SUBJECTS = 500


@dataclass(frozen=True)
class Learnt:
    """A feature's knowledge of other services' subjects, so that it can be learnt anew.

    `known` answers the highest sequence known, by subject. `forget` sets the sequences of the given subjects
    back in the session's transaction, so that their next snapshot is news; effects stay.
    """

    kind: str
    forget: Callable[[Sequence[str], Session], Awaitable[None]]
    known: Callable[[Sequence[str], Session], Awaitable[Mapping[str, int]]]


class SubjectsIn(Body):
    """Ids of members, groups or notifications, or unit codes. With `dry_run`, nothing changes."""

    subjects: Annotated[list[Subject], Field(min_length=1, max_length=MAX_SUBJECTS)]
    dry_run: Annotated[bool, Strict()] = False


class KnownOut(BaseModel):
    """A subject, and the sequence that it has in `kind`: a collection of the consumer, or an event type."""

    subject: str
    kind: str
    sequence: int


class RepairOut(BaseModel):
    items: list[KnownOut]


def forget_router(learnt: Sequence[Learnt], outbox: Outbox) -> APIRouter:
    """The route of a consumer."""
    router = APIRouter(prefix="/v1/ops", route_class=Route)

    @router.post("/repairs", response_model=RepairOut)
    async def forget_sequences(body: SubjectsIn, operator: Operator) -> Response:
        """Forget the sequences of these subjects; the answer has those known before. Publish the subjects
        again afterwards (`POST /v1/ops/snapshots` of their services)."""

        async def forget(work: UnitOfWork) -> list[dict[str, str | int]]:
            items = []
            for each in learnt:
                known = await each.known(body.subjects, work.session)
                items += [_item(subject, each.kind, number) for subject, number in sorted(known.items())]
                if not body.dry_run:
                    await each.forget(body.subjects, work.session)
            return items

        items = await outbox.transact(forget)
        if not body.dry_run:
            log.info("repair.forgotten", subjects=len(body.subjects), by=operator.subject)
        return JSON({"items": items})

    return router


def snapshots_router(sources: Sequence[Source], database: Database, outbox: Outbox) -> APIRouter:
    """The route of the service that owns the subjects."""
    router = APIRouter(prefix="/v1/ops", route_class=Route)

    @router.post("/snapshots", response_model=RepairOut)
    async def publish_snapshots(body: SubjectsIn, operator: Operator) -> Response:
        """Publish the present state of these subjects again, each under the sequence that it has. Subjects
        that this service does not have are missing in the answer."""

        async def publish(work: UnitOfWork) -> list[dict[str, str | int]]:
            found = await snapshots_of(body.subjects, sources, database, work.session)
            if not body.dry_run:
                work.stage_all(found, Origin.here())
            return [_item(event.subject, event.event_type, sequence) for event, sequence in found]

        items = await outbox.transact(publish)
        if not body.dry_run:
            log.info("repair.published", snapshots=len(items), by=operator.subject)
        return JSON({"items": items})

    return router


def _item(subject: str, kind: str, sequence: int) -> dict[str, str | int]:
    return {"subject": subject, "kind": kind, "sequence": sequence}
