"""Errors that this service raises for its callers."""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.errors import ConflictError, FieldError, InvalidError, UnavailableError


def unknown_parent() -> ConflictError:
    return ConflictError("unknown-parent", "the unit above this one does not exist yet")


def level_does_not_fit() -> InvalidError:
    return InvalidError([FieldError("/level", "does not fit the depth of the code")])


def invalid_import(errors: Sequence[FieldError], count: int = 1) -> InvalidError:
    """An import is refused whole; the answer lists its first errors and counts them all."""
    return InvalidError(
        errors,
        reason="invalid-units",
        title="The units are not loaded",
        detail="nothing was written",
        extra={"error_count": count},
    )


def capacity_below_seats_taken() -> InvalidError:
    return InvalidError([FieldError("/capacity", "is below the number of seats taken")])


def empty_roster() -> InvalidError:
    return InvalidError(
        reason="roster-without-entries",
        title="The roster is not taken",
        detail="no line has the id or the number of anybody",
    )


def roster_too_long(most: int) -> InvalidError:
    return InvalidError(
        reason="roster-too-long",
        title="The roster is not taken",
        detail=f"a roster has at most {most:,} entries; no chat group has more people",
    )


def roster_from_the_future() -> InvalidError:
    return InvalidError([FieldError("/taken_at", "lies ahead", "query")])


def roster_not_text() -> InvalidError:
    return InvalidError(
        reason="roster-not-text",
        title="The roster is not taken",
        detail="the file is neither UTF-8 nor UTF-16",
    )


def numbers_cannot_be_matched() -> UnavailableError:
    return UnavailableError(
        "numbers-cannot-be-matched", "this installation takes rosters of member ids only", 3600
    )


def no_more_admins(most: int) -> ConflictError:
    return ConflictError("too-many-admins", f"a group has at most {most} admins")


def admin_has_left() -> ConflictError:
    return ConflictError("member-has-left", "somebody who has left runs no group")
