"""Errors that this service raises for its callers."""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.errors import ConflictError, FieldError, InvalidError, UnavailableError


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


def levels_named(levels: Sequence[str]) -> ConflictError:
    detail = "the placement policy names these levels: put one in force that does not, and then change them"
    return ConflictError("levels-named-by-policy", detail, extra={"levels": " ".join(levels)})


def unknown_level() -> InvalidError:
    return InvalidError([FieldError("/level", "is no level of the tree")])


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


def invalid_policy(faults: Sequence[FieldError]) -> InvalidError:
    return InvalidError(faults, reason="invalid-policy", title="The policy cannot be put in force")


def policy_being_applied(job_id: str) -> ConflictError:
    return ConflictError(
        "policy-being-applied",
        "another policy is being applied: wait for its job, or cancel it",
        extra={"job_id": job_id},
    )


def group_has_members(taken: int) -> ConflictError:
    return ConflictError("group-has-members", "the group is not empty", extra={"members": taken})


def group_is_retired() -> ConflictError:
    return ConflictError("group-retired", "the group is being closed, or was archived")


def no_room(needed: int, free: int) -> ConflictError:
    return ConflictError(
        "no-room", "the unit's other groups have too few free seats", extra={"needed": needed, "free": free}
    )


def nothing_to_split() -> ConflictError:
    return ConflictError("nothing-to-split", "the group has no more members than that: change its capacity")


def kind_has_no_groups() -> InvalidError:
    return InvalidError([FieldError("/kind", "the policy has no groups of this kind at this level")])


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
