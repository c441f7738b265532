"""The demo's admin: gives every group its invite link, including groups created late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from infra.local.demo.api import Api
from infra.local.errors import LocalError

AT_ONCE = 16
EVERY_SECONDS = 0.5


class InviteLinks:
    """Gives links. A welcome waits for its group's link, so no group may be left out."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._few = asyncio.Semaphore(AT_ONCE)
        self.live: set[str] = set()
        """Units whose general group has a link."""

    async def keep_giving(self) -> None:
        """Give links until cancelled."""
        while True:
            await self.give()
            await asyncio.sleep(EVERY_SECONDS)

    async def give(self) -> int:
        """Give a link to each group without one, and return how many there were."""
        groups = [group async for group in self._api.pages("groups", "/v1/groups")]
        self.live |= {g["unit"] for g in groups if g["kind"] == "general" and g["invite_link"]}
        bare = [group for group in groups if not group["invite_link"]]
        async with asyncio.TaskGroup() as giving:
            for group in bare:
                giving.create_task(self._give(group))
        return len(bare)

    async def _give(self, group: Mapping[str, Any]) -> None:
        change = {"invite_link": f"https://example.org/invite/{group['id']}"}
        headers = {"If-Match": f'"{group["version"]}"'}
        async with self._few:
            answer = await self._api.send(
                "PATCH", "groups", f"/v1/groups/{group['id']}", json=change, headers=headers
            )
        # 412: the group has just changed; the next round reads it again.
        if answer.status_code not in (200, 412):
            raise LocalError(f"groups answered {answer.status_code} to a link: {answer.text[:300]}")
