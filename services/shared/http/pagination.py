"""Pagination by `limit` and an opaque `cursor`. A cursor is a position, not a count, so pages stay stable
under writes.

window = paging.window("members", {"unit": unit}, (str,))
rows = await store.members(unit, after=window.after, limit=window.limit + 1)
rows, next = window.cut(rows, lambda row: (row["_id"],))
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Depends, Query
from pydantic import BaseModel

from services.shared.http.problem import Problem, bad_request
from services.shared.http.values import Digits

T = TypeVar("T")
Position = tuple[Any, ...]
"""The sort key of a row: strings, integers, floats or None."""

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_CURSOR_CHARS = 2048
_DIGEST_CHARS = 16
_MAX_INT64 = 2**63 - 1
"""The largest integer of BSON; orjson also reads twice as large ones."""


class Page(BaseModel, Generic[T]):
    """`{"items": [...], "next": "<cursor>" | null}`."""

    items: list[T]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The rows to fetch: at most `limit`, those after the position `after` (None: from the start)."""

    limit: int
    after: Position | None
    _listing: bytes

    @property
    def after_id(self) -> str | None:
        """`after`, for a listing whose position is a single id."""
        return None if self.after is None else str(self.after[0])

    def cut(self, rows: Sequence[T], position: Callable[[T], Position]) -> tuple[Sequence[T], str | None]:
        """The page, and the cursor of the next page. Fetch `limit + 1` rows: an extra row means that more
        follow."""
        if len(rows) <= self.limit:
            return rows, None
        page = rows[: self.limit]
        return page, self.cursor(position(page[-1]))

    def cursor(self, position: Position) -> str:
        """The cursor of what comes after a position."""
        return _encode(self._listing, position)


@dataclass(frozen=True, slots=True)
class PageParams:
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None

    def window(self, route: str, filters: Mapping[str, object], shape: tuple[type, ...]) -> Window:
        """The window for this listing.

        Args:
            route: names the listing; a cursor is valid only for its own listing.
            filters: everything else that the caller may vary (JSON values, dates); a cursor is valid only for
                the same filters.
            shape: the types of a position, such as `(str,)`; None is always allowed.

        Raises:
            Problem: 400 `invalid-cursor`.
        """
        listing = orjson.dumps([route, filters], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        after = None if self.cursor is None else _decode(listing, self.cursor, shape)
        return Window(self.limit, after, listing)


async def page_params(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items per page."), Digits] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="`next` of the previous page.")] = None,
) -> PageParams:
    return PageParams(limit, cursor)


Paging = Annotated[PageParams, Depends(page_params)]
"""The parameter of a route that lists."""


def _digest(listing: bytes, position: Sequence[Any]) -> str:
    """Tie a position to its listing. No secret: a forged position shows only rows that the caller may list
    anyway."""
    return hashlib.sha256(listing + b"\n" + orjson.dumps(position)).hexdigest()[:_DIGEST_CHARS]


def _encode(listing: bytes, position: Sequence[Any]) -> str:
    document = orjson.dumps([_digest(listing, position), *position])
    return urlsafe_b64encode(document).rstrip(b"=").decode()


def _decode(listing: bytes, cursor: str, shape: tuple[type, ...]) -> Position:
    if len(cursor) > MAX_CURSOR_CHARS:
        raise _invalid_cursor()
    try:
        digest, *position = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        genuine = digest == _digest(listing, position) and _encode(listing, position) == cursor
    except (ValueError, TypeError) as error:
        raise _invalid_cursor() from error
    if not genuine or len(position) != len(shape):
        raise _invalid_cursor()
    if not all(map(_fits, position, shape)):
        raise _invalid_cursor()
    return tuple(position)


def _fits(value: object, kind: type) -> bool:
    if isinstance(value, int) and value > _MAX_INT64:
        return False
    return value is None or type(value) is kind


def _invalid_cursor() -> Problem:
    return bad_request("invalid-cursor", "the cursor does not belong to this listing; start again without it")
