"""Errors that this service raises for its callers."""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.errors import ConflictError, FieldError, InvalidError


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
