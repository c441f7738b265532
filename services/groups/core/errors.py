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
