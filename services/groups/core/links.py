"""Invite links, sealed at rest: whoever has a link can read the phone numbers of a whole group.

A process of release 0.1.0 stores a link as it is, also beside newer processes. So a plain link outweighs a
sealed one, and `services/groups/invites` seals it where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from services.groups.core.domain import Group
from services.shared.encryption import Ciphertext, Vault


class InviteLinks:
    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def opened(self, groups: Iterable[Group]) -> list[Group]:
        """The groups with their links readable."""
        found = list(groups)
        sealed = {
            g.id: cast(Ciphertext, g.sealed_link)
            for g in found
            if g.invite_link is None and g.sealed_link is not None
        }
        links = dict(zip(sealed, await self._vault.open(sealed.items()), strict=True))
        return [replace(g, invite_link=links[g.id]["link"]) if g.id in links else g for g in found]

    async def sealed(self, group: Group, *, before: Group) -> Group:
        """The opened group as it is stored. An unchanged link stays under its seal."""
        if group.invite_link is None:
            return replace(group, sealed_link=None)
        if group.invite_link == before.invite_link and before.sealed_link is not None:
            return replace(group, invite_link=None)
        return replace(group, invite_link=None, sealed_link=await self.seal(group.id, group.invite_link))

    async def seal(self, group_id: str, link: str) -> Ciphertext:
        [sealed] = await self._vault.seal([(group_id, {"link": link})])
        return sealed
