"""The other services, each of which holds something about a member."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from prometheus_client import CollectorRegistry

from services.members.core.errors import dossier_incomplete
from services.members.settings import MembersSettings
from services.shared.errors import TransientError
from services.shared.peers import Peer, ServiceToken, peer_errors, token_expiry

TEMPLATE: Final = "/v1/members/{id}/holdings"
"""The route of each of them; the id is a UUID, so nothing in it needs quoting."""
NAMES: Final = ("groups", "notifications", "analytics")


class Holders:
    """Without a token or an address in the settings, those services cannot be asked."""

    def __init__(self, settings: MembersSettings, registry: CollectorRegistry) -> None:
        self._peers: dict[str, Peer] = {}
        if settings.service_token_file is None:
            return
        token, errors = ServiceToken(settings.service_token_file), peer_errors(registry)
        token_expiry(registry).set_function(token.expires_at)
        urls = {name: getattr(settings, f"{name}_url") for name in NAMES}
        self._peers = {name: Peer(name, url, token, errors) for name, url in urls.items() if url is not None}

    async def held(self, member_id: str) -> dict[str, dict[str, Any]]:
        """Ask each of the other services what it holds about a member; the answers by its name.

        Raises: `UnavailableError` that names the services that did not answer.
        """
        answers = await asyncio.gather(*[self._of(name, member_id) for name in NAMES])
        held = {name: answer for name, answer in zip(NAMES, answers, strict=True) if answer is not None}
        if missing := [name for name in NAMES if name not in held]:
            raise dossier_incomplete(missing)
        return held

    async def close(self) -> None:
        for peer in self._peers.values():
            await peer.close()

    async def _of(self, name: str, member_id: str) -> dict[str, Any] | None:
        peer = self._peers.get(name)
        if peer is None:
            return None
        try:
            answer = await peer.get(TEMPLATE.replace("{id}", member_id), TEMPLATE)
        except TransientError:
            return None
        return answer if answer.pop("member_id", None) == member_id else None
