"""Texts as shipped, as an organisation has them registered with DLT and approved by WhatsApp."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from services.notifications.core.core import Core
from services.notifications.core.templates.catalogue import known
from services.notifications.core.templates.domain import Approval, ApprovalState, TextVersion, text_id
from services.shared.messaging import UnitOfWork

PLACES: Final = 3
"""Places in a row for each value: 90 characters, for links of WhatsApp are longer than one place."""


def registered(text: str, places: int = PLACES) -> str:
    """The text as it would be registered with DLT."""
    return re.sub(r"{{.*?}}", "{#var#}" * places, text)


def approvals(core: Core, version: TextVersion, *channels: str) -> tuple[Approval, ...]:
    now, name = core.clock.now(), f"{version.name}_{version.language}"
    sms = Approval(
        "sms",
        ApprovalState.APPROVED,
        f"1107{name}",
        "service_implicit",
        now,
        text=registered(version.wording.text),
    )
    whatsapp = Approval(
        "whatsapp",
        ApprovalState.APPROVED,
        name,
        "utility",
        now,
        language=version.language,
        variables=known(version.name).variables,
    )
    return tuple(each for each in (sms, whatsapp) if each.channel in channels)


async def register(core: Core, *names: str, channels: tuple[str, ...] = ("sms", "whatsapp")) -> None:
    """Register texts as shipped, in Hindi and English."""

    async def body(work: UnitOfWork) -> None:
        for name in names:
            for language in ("hi", "en"):
                shipped = core.texts.shipped(name, language)
                assert shipped is not None
                stored = replace(shipped, id=text_id(name, language, 1), version=1)
                stored = replace(stored, approvals=approvals(core, stored, *channels))
                await core.template_changes.add(stored, work)

    await core.runtime.outbox.transact(body)
