"""The operations API of a consumer service: its dead letters and its fuse (scope `ops:*`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from services.shared.database import Document
from services.shared.errors import ConflictError, NotFoundError, PermanentError
from services.shared.http.auth import require
from services.shared.http.body import JSON, Body, Route, problems
from services.shared.http.pagination import Page, PageParams, Paging, Window
from services.shared.http.values import Timestamp
from services.shared.identity import Identity
from services.shared.messaging import DeadLetters, Filter, Fuse, Place, Replayer, place_of

Reader = Annotated[Identity, Depends(require("ops:read", everywhere=True))]
Operator = Annotated[Identity, Depends(require("ops:write", everywhere=True))]
LetterId = Annotated[str, Path(alias="id", max_length=300, description="topic:partition:offset")]
State = Literal["dead", "replayed", "discarded", "set_aside"]
MAX_DISCARDED = 500
"""Most letters that one call discards."""


async def chosen(
    type_: Annotated[str | None, Query(alias="type", max_length=128)] = None,
    reason: Annotated[str | None, Query(max_length=128)] = None,
    since: Annotated[Timestamp | None, Query(description="Dead-lettered at this time or later.")] = None,
    until: Annotated[Timestamp | None, Query(description="Dead-lettered before this time.")] = None,
) -> Filter:
    return Filter(type=type_, reason=reason, since=since, until=until)


Chosen = Annotated[Filter, Depends(chosen)]


class DeadLetterOut(BaseModel):
    """A record that could not be applied, without its value.

    `replayable`: the value was kept. For other letters, a replay reads the record from its topic again, which
    helps once a release can decode it. `settled_at` and `settled_by` (a token's subject) say when and by whom
    the letter was replayed or discarded. A letter in the state `set_aside` waits for a release that knows its
    type, which replays it by itself; only a call that asks for that state lists it.
    """

    id: str
    type: str | None
    event_id: str | None
    reason: str
    detail: str
    attempts: int
    topic: str
    partition: int
    offset: int
    bytes: int
    sha256: str
    replayable: bool
    state: State
    note: str | None
    at: datetime
    settled_at: datetime | None
    settled_by: str | None


class KindOut(BaseModel):
    """The number of letters of one type and reason, and when the first and the last were dead-lettered."""

    type: str | None
    reason: str
    count: int
    oldest: datetime
    newest: datetime


class SummaryOut(BaseModel):
    """`total` counts all letters; `items` are the 500 most frequent pairs of type and reason."""

    total: int
    items: list[KindOut]


class FailureOut(BaseModel):
    id: str
    reason: str
    detail: str


class ReplayOut(BaseModel):
    """The result for the letters of this call. `remaining` letters follow: call again with `next` until it is
    null.

    `failures` gives the reason for each letter that failed or was withheld. `withheld`: the value was not
    kept, and the record is gone or still does not decode. `held`: an earlier letter of the same subject
    failed again.
    """

    replayed: int
    failed: int
    withheld: int
    held: int
    remaining: int
    failures: list[FailureOut]
    next: str | None


class DiscardIn(Body):
    """The reason for discarding. It is kept with the letters, so it must contain nothing personal."""

    reason: Annotated[str, Field(min_length=3, max_length=200)]


class DiscardedOut(BaseModel):
    """`remaining` letters still match: call again until it is 0."""

    discarded: int
    remaining: int


class FuseOut(BaseModel):
    """Whether the fuse is open, since when and why: `dead` of the last `of` records were dead-lettered,
    either all in a row (`run`) or more than the allowed `ratio`."""

    open: bool
    since: datetime | None
    cause: Literal["run", "ratio"] | None
    dead: int | None
    of: int | None


def dead_letters_router(replayer: Replayer, letters: DeadLetters, fuse: Fuse) -> APIRouter:
    router = APIRouter(prefix="/v1/ops", route_class=Route)

    @router.get("/dead-letters", response_model=Page[DeadLetterOut])
    async def list_dead_letters(
        paging: Paging, chosen: Chosen, _: Reader, state: Annotated[State | None, Query()] = None
    ) -> Response:
        """List letters in the order of the log: topic, partition, offset."""
        wanted = replace(chosen, state=state)
        page, cursor = await _page(letters, _window(paging, "dead-letters", wanted), wanted)
        return JSON({"items": [_out(row) for row in page], "next": cursor})

    @router.get("/dead-letters/summary", response_model=SummaryOut)
    async def summarise_dead_letters(
        chosen: Chosen, _: Reader, state: Annotated[State, Query()] = "dead"
    ) -> Response:
        """Count the letters of each type and reason, the most frequent first."""
        wanted = replace(chosen, state=state)
        return JSON({"total": await letters.count(wanted), "items": await letters.summary(wanted)})

    @router.post("/dead-letters/replay", response_model=ReplayOut)
    async def replay_dead_letters(paging: Paging, chosen: Chosen, operator: Operator) -> Response:
        """Replay up to `limit` matching dead letters, in order. Safe to repeat."""
        wanted = replace(chosen, state="dead")
        page, cursor = await _page(letters, _window(paging, "replay", wanted), wanted)
        report = await replayer.replay(wanted, page, by=operator.subject)
        remaining = await letters.count(wanted, after=place_of(page[-1])) if cursor else 0
        return JSON(
            {
                "replayed": report.replayed,
                "failed": len(report.failed),
                "withheld": len(report.withheld),
                "held": report.held,
                "remaining": remaining,
                "failures": [asdict(failure) for failure in (*report.failed, *report.withheld)],
                "next": cursor,
            }
        )

    @router.post("/dead-letters/discard", response_model=DiscardedOut)
    async def discard_dead_letters(chosen: Chosen, body: DiscardIn, operator: Operator) -> Response:
        """Discard up to 500 matching dead letters, with a reason."""
        wanted = replace(chosen, state="dead")
        ids = [row["_id"] for row in await letters.find(wanted, after=None, limit=MAX_DISCARDED)]
        discarded = await letters.settle(ids, "discarded", by=operator.subject, note=body.reason)
        return JSON({"discarded": discarded, "remaining": await letters.count(wanted)})

    @router.get("/dead-letters/{id}", response_model=DeadLetterOut)
    async def get_dead_letter(letter_id: LetterId, _: Reader) -> Response:
        return JSON(_out(await _found(letters, letter_id)))

    @router.post("/dead-letters/{id}/replay", response_model=DeadLetterOut, responses=problems(409))
    async def replay_dead_letter(letter_id: LetterId, operator: Operator) -> Response:
        """Replay one letter. Safe to repeat.

        409 when it fails again, or when its value was not kept and its record still does not decode.
        """
        await _found(letters, letter_id)
        try:
            await replayer.replay_one(letter_id, by=operator.subject)
        except PermanentError as error:
            raise ConflictError("replay-failed", f"{error.reason}: {error.detail}") from error
        return JSON(_out(await _found(letters, letter_id)))

    @router.post("/dead-letters/{id}/discard", response_model=DeadLetterOut)
    async def discard_dead_letter(letter_id: LetterId, body: DiscardIn, operator: Operator) -> Response:
        """Discard one letter, with a reason. A letter already replayed or discarded does not change."""
        await _found(letters, letter_id)
        await letters.settle([letter_id], "discarded", by=operator.subject, note=body.reason)
        return JSON(_out(await _found(letters, letter_id)))

    @router.get("/fuse", response_model=FuseOut)
    async def get_fuse(_: Reader) -> Response:
        return JSON(await fuse.state())

    @router.post("/fuse/reset", response_model=FuseOut)
    async def reset_fuse(_: Operator) -> Response:
        """Close the fuse: the consumer continues where it stopped."""
        await fuse.reset()
        return JSON(await fuse.state())

    return router


def _window(paging: PageParams, route: str, wanted: Filter) -> Window:
    return paging.window(route, asdict(wanted), (str, int, int))


async def _page(
    letters: DeadLetters, window: Window, wanted: Filter
) -> tuple[Sequence[Document], str | None]:
    after = cast(Place | None, window.after)
    return window.cut(await letters.find(wanted, after=after, limit=window.limit + 1), place_of)


async def _found(letters: DeadLetters, letter_id: str) -> Document:
    letter = await letters.get(letter_id)
    if letter is None:
        raise NotFoundError
    return letter


def _out(row: Document) -> dict[str, Any]:
    derived = {"id", "replayable", "note", "settled_at", "settled_by"}
    out = {name: row[name] for name in DeadLetterOut.model_fields if name not in derived}
    later = {name: row.get(name) for name in ("note", "settled_at", "settled_by")}
    return {"id": row["_id"], **out, "replayable": row["key"] is not None, **later}
