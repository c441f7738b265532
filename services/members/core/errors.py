"""The errors of this service, one function each; none repeats what the caller sent."""

from __future__ import annotations

from collections.abc import Sequence

from services.members.core.domain import Member, Status
from services.shared.errors import (
    ConflictError,
    FieldError,
    InvalidError,
    Location,
    NotFoundError,
    TooManyError,
    UnavailableError,
)
from services.shared.identity import Identity


def phone_already_registered(caller: Identity, member_id: str, unit: str) -> ConflictError:
    """Names the member who has the phone to a caller who may see that member."""
    visible = caller.has_scope("members:read") and caller.can_access(unit)
    extra = {"member_id": member_id} if visible else None
    return ConflictError("phone-already-registered", "an active member has this phone number", extra=extra)


def asked_too_often(retry_seconds: int) -> TooManyError:
    detail = "too many of your requests named a phone number that an active member has; try again later"
    return TooManyError("too-many-taken-phones", detail, retry_seconds)


def member_has_left() -> ConflictError:
    return ConflictError("member-has-left", "a member who left cannot be changed; register the person again")


def member_is_merged() -> ConflictError:
    detail = "this member was merged into another, `merged_into`; change that one"
    return ConflictError("member-is-merged", detail)


def not_active(member: Member) -> ConflictError:
    """The reason why a member who is not active cannot be changed."""
    return member_is_merged() if member.status == Status.MERGED else member_has_left()


def same_member() -> InvalidError:
    return InvalidError([FieldError("/other", "is the member itself")])


def merge_expired() -> ConflictError:
    return ConflictError("merge-expired", "a merge can be undone for 30 days")


def merged_on() -> ConflictError:
    detail = "the member who stands for both was merged into another since; undo that merge first"
    return ConflictError("merged-on", detail)


def not_merged_now() -> ConflictError:
    """A merge whose other member is not merged any more by it: erased, or restored from a dump."""
    return ConflictError("not-merged", "the member is not merged by this merge any more")


def changed_meanwhile() -> ConflictError:
    """After losing several races for one member: the caller may simply try again."""
    return ConflictError("changed-meanwhile", "others are changing this member; try again")


def unknown_notice(where: Location = "body", pointer: str = "/notice") -> InvalidError:
    detail = "names no registered notice in this language: register its text first"
    return InvalidError([FieldError(pointer, detail, where)])


def notice_is_another() -> ConflictError:
    detail = "this version and language have another text, which never changes; register another version"
    return ConflictError("notice-is-another", detail)


def unknown_role() -> InvalidError:
    return InvalidError([FieldError("/role", "is not one of this organisation's roles", "path")])


def too_many_roles(most: int) -> ConflictError:
    return ConflictError("too-many-roles", f"a member has at most {most} roles")


def ends_too_early() -> InvalidError:
    return InvalidError([FieldError("/until", "must be after `from`, and in the future")])


def unknown_inviter() -> InvalidError:
    return InvalidError([FieldError("/inviter_id", "is not the id of a member")])


def unreachable() -> InvalidError:
    """The same for a member elsewhere as for nobody's id."""
    detail = "is not the id of an active member of yours who has a number of their own"
    return InvalidError([FieldError("/reached_by", detail)])


def has_own_number() -> ConflictError:
    return ConflictError("has-own-number", "a member who has a number of their own is reached by it")


def implausible_birth_year() -> InvalidError:
    return InvalidError([FieldError("/birth_year", "is not a plausible year of birth")])


def is_minor() -> InvalidError:
    detail = (
        "is of somebody who may be under 18: that needs `guardian_evidence`, a consent to `membership`, and"
        " this organisation's setting `minors_allowed`"
    )
    return InvalidError([FieldError("/birth_year", detail)])


def is_no_minor() -> InvalidError:
    detail = "is for somebody whose `birth_year` says that they may be under 18"
    return InvalidError([FieldError("/guardian_evidence", detail)])


def unit_not_found() -> NotFoundError:
    """A unit outside the caller's subtree looks like one that does not exist."""
    return NotFoundError("there is no such unit in your part of the organisation")


def unit_was_split(successors: Sequence[str]) -> InvalidError:
    """Names the parts, which are known to whoever may see the tree."""
    parts = f": it is now {', '.join(successors)}" if successors else ""
    return InvalidError([FieldError("/unit", f"is a unit that there is no more{parts}")])


def dossier_incomplete(missing: Sequence[str]) -> UnavailableError:
    """A dossier is whole or there is none: nobody is handed one from which something is missing."""
    detail = f"these services do not tell what they hold now: {', '.join(missing)}"
    return UnavailableError("dossier-incomplete", detail, retry_seconds=30)


def not_answered() -> ConflictError:
    return ConflictError("grievance-not-answered", "a grievance is closed only once it has an answer")


def affected_taken() -> ConflictError:
    detail = "the list of the affected was taken, and is frozen: file another incident for another list"
    return ConflictError("affected-taken", detail)


def in_the_future(pointer: str) -> InvalidError:
    return InvalidError([FieldError(pointer, "must not be in the future")])
