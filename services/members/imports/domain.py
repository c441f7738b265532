"""The rules of an import: what a row would do, and what applying it does. Pure.

A blank cell changes nothing. Nothing in a file touches a consent that exists, `joined_at`, or a member who
left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from services.members.core.changing import Changes
from services.members.core.domain import Contact, Member
from services.members.core.joining import Application
from services.shared.contracts.vocabulary import Gender, Language, Platform

NEW: Final = "new"
CHANGED: Final = "changed"
UNCHANGED: Final = "unchanged"
DUPLICATE: Final = "duplicate"
REFUSED: Final = "refused"
OUTCOMES: Final = (NEW, CHANGED, UNCHANGED, DUPLICATE, REFUSED)
ORIGIN: Final = "import"
CONSENTS_SCOPE: Final = "consents:write"
"""Needed to record consents of others, beside a notice and evidence."""

_OF_MEMBER: Final = ("name", "gender", "language", "birth_year", "preferred_channel", "unit", "reached_by")
_PLATFORMS: Final[tuple[str, ...]] = tuple(platform.value for platform in Platform)
MAX_DISTRICTS: Final = 60
"""Districts that a plan tells apart (Bihar has 38); further ones are counted together as `other`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms that the request set for all rows.

    `unit` is for new members whose row names none. `consents` are `(purpose, channel)` that new members gave,
    shown `notice` in `notice_language`, with `evidence` saying where the proof is kept.
    """

    unit: str | None = None
    announce: bool = False
    consents: tuple[tuple[str, str], ...] = ()
    notice: str = ""
    notice_language: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row that will create or change the member `id`; `version` is what it was compared with, 0 for a new
    member. `changed` names the fields that change, `before` has their values but for the contact's. `also`
    are the further numbers of the row: nobody may have one of them who is not the row's member."""

    line: int
    id: str
    version: int
    values: Mapping[str, Any]
    handles: Mapping[str, str] = field(default_factory=dict)
    consent: bool | None = None
    changed: tuple[str, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that nothing is done with. `cells` are the file's own."""

    line: int
    outcome: str
    reason: str
    cells: Sequence[str]


R = TypeVar("R", PlannedRow, RefusedRow)


def without_erased(rows: Iterable[R], import_document: Mapping[str, Any]) -> list[R]:
    """The rows but those about somebody who was erased after the file was read."""
    erased = set(import_document.get("erased_lines", ()))
    return [row for row in rows if row.line not in erased]


def changed_fields(
    member: Member, contact: Contact, values: Mapping[str, Any], handles: Mapping[str, str]
) -> tuple[str, ...]:
    """The fields that a row would change; a platform that it does not name keeps its handle."""
    differing = [name for name in _OF_MEMBER if name in values and values[name] != getattr(member, name)]
    differing += [n for n in ("phone", "email") if n in values and values[n] != getattr(contact, n)]
    if any(contact.handles.get(platform) != handle for platform, handle in handles.items()):
        differing.append("platforms")
    return tuple(differing)


def before(member: Member, changed: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(member, name) for name in changed if name in _OF_MEMBER}


def changes(row: PlannedRow, contact: Contact) -> Changes:
    """The change of a member's own fields; the unit is a move."""
    wanted = {name: row.values[name] for name in row.changed if name in row.values and name != "unit"}
    handles = {**contact.handles, **row.handles}
    ordered = {platform: handles[platform] for platform in _PLATFORMS if platform in handles}
    return Changes(**wanted, handles=ordered if "platforms" in row.changed else None)


def application(row: PlannedRow, terms: Terms, import_id: str) -> Application:
    """The registration of a new member. Who said no, or nothing, in the file's own column has no consent."""
    values = row.values
    agreed = terms.consents if row.consent is not False else ()
    return Application(
        name=values["name"],
        unit=values["unit"],
        contact=Contact(values.get("phone", ""), values.get("email"), row.handles),
        gender=values.get("gender", Gender.UNDISCLOSED.value),
        language=values.get("language", Language.HINDI.value),
        birth_year=values.get("birth_year"),
        preferred_channel=values.get("preferred_channel"),
        inviter_id=values.get("inviter_id"),
        reached_by=values.get("reached_by"),
        consents=tuple((*each, terms.notice, terms.notice_language) for each in agreed),
        source=f"import:{import_id}",
        origin=ORIGIN,
        announced=terms.announce,
    )


def district(unit: str | None) -> str:
    """`BR-SARAN-MANJHI-12` -> `BR-SARAN`."""
    return "-".join(unit.split("-")[:2]) if unit else "none"
