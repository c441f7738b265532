"""Errors that this service raises for its callers."""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.errors import ConflictError, FieldError, InvalidError


def unknown_parent() -> ConflictError:
    return ConflictError("unknown-parent", "the unit above this one does not exist yet")


def level_does_not_fit() -> InvalidError:
    return InvalidError([FieldError("/level", "does not fit the depth of the code")])


def unit_retired(successors: Sequence[str]) -> ConflictError:
    """Names the units that stand for it, which lie within what the caller may see or may ask for."""
    detail = "the unit was merged, split or moved, and its code is never used again"
    return ConflictError("unit-retired", detail, extra={"successors": " ".join(successors)})


def redrawing_in_progress() -> ConflictError:
    detail = "a comparison is being applied to the tree: wait for its job, or cancel it"
    return ConflictError("redrawing-in-progress", detail)


def levels_in_use(depths: Sequence[int]) -> ConflictError:
    detail = "there are units at these depths, whose level stays as it is"
    return ConflictError("levels-in-use", detail, extra={"depths": " ".join(map(str, depths))})


def comparison_not_ready() -> ConflictError:
    return ConflictError("comparison-not-ready", "the comparison is still being made: wait for its job")


def comparison_applied() -> ConflictError:
    return ConflictError("comparison-applied", "the comparison has been applied already")


def comparison_stale() -> ConflictError:
    detail = "the tree has changed since it was compared: send the file again for a new comparison"
    return ConflictError("comparison-stale", detail)


def comparison_refused(count: int) -> ConflictError:
    """The comparison lists what is refused, with the reason."""
    detail = "some units vanish with members in them: name their successors, or move the members first"
    return ConflictError("comparison-refused", detail, extra={"refused": count})


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
