"""The problems of this service, one function each; none repeats what the caller sent."""

from __future__ import annotations

from services.shared.http.problem import FieldError, Problem, conflict, invalid, not_found


def phone_already_registered(member_id: str | None) -> Problem:
    """409; `member_id` is None when the caller may not see that member."""
    extra = {"member_id": member_id} if member_id else {}
    return conflict("phone-already-registered", "an active member has this phone number", extra=extra)


def member_has_left() -> Problem:
    return conflict("member-has-left", "who left is changed no more; register the person again")


def busy() -> Problem:
    """409 after losing several races for one member: the caller may simply try again."""
    return conflict("changed-meanwhile", "others are changing this member; try again")


def unknown_inviter() -> Problem:
    return invalid([FieldError("/inviter_id", "is not the id of a member")])


def implausible_birth_year() -> Problem:
    return invalid([FieldError("/birth_year", "is not a plausible year of birth")])


def unit_not_found() -> Problem:
    """404: a unit outside the caller's subtree looks like one that is not there."""
    return not_found("there is no such unit in your part of the organisation")
