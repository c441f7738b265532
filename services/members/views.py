"""How a member is written in an answer; roles and consents are dataclasses, which orjson writes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from services.members.domain import Contact, Member

View: TypeAlias = dict[str, Any]


def member_view(member: Member, contact: Contact | None) -> View:
    """With `contact` None, what reaches the person is left out: no phone, no e-mail, platforms without handles."""
    m = member
    view: View = {"id": m.id, "name": m.name}
    if contact is not None:
        view["phone"] = contact.phone
        view["email"] = contact.email
    view |= {
        "unit": m.unit,
        "gender": m.gender,
        "language": m.language,
        "birth_year": m.birth_year,
        "platforms": _platforms(m.platforms, contact),
        "roles": m.roles,
        "consents": m.consents,
        "status": m.status,
        "inviter_id": m.inviter_id,
        "joined_at": m.joined_at,
        "updated_at": m.updated_at,
        "version": m.version,
    }
    return view


def contact_view(member: Member, contact: Contact) -> View:
    """What another service needs to write to someone."""
    return {
        "id": member.id,
        "name": member.name,
        "phone": contact.phone,
        "email": contact.email,
        "language": member.language,
        "status": member.status,
        "unit": member.unit,
    }


def _platforms(platforms: Sequence[str], contact: Contact | None) -> list[View]:
    if contact is None:
        return [{"platform": platform} for platform in platforms]
    return [{"platform": platform, "handle": handle} for platform, handle in contact.handles.items()]
