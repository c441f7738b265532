"""The core that every feature of the groups service is built on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from prometheus_client import Counter

from services.groups.core.domain import Group
from services.groups.core.links import InviteLinks
from services.groups.core.metrics import GroupsMetrics
from services.groups.core.observations.store import OBSERVATION_MIGRATIONS, ObservationStore
from services.groups.core.policies import Policies
from services.groups.core.seating import store as seating_store
from services.groups.core.seating.service import SeatingService
from services.groups.core.seating.store import SeatStore
from services.groups.core.store import MIGRATIONS, CoreStore, PolicyVersions
from services.groups.settings import GroupsSettings
from services.shared.contracts.base import Numbered
from services.shared.encryption import Vault
from services.shared.identity import Identity
from services.shared.jobs import Job
from services.shared.messaging import UnitOfWork
from services.shared.peers import Peer, ServiceToken, peer_errors, token_expiry
from services.shared.runtime import Feature, Runtime, vault_key

SeatsChanged = Callable[[Sequence[Numbered], UnitOfWork], Awaitable[None]]
"""Told of `group.member_assigned` and `group.member_removed` in the transaction that stages them."""
Erased = Callable[[Mapping[str, Sequence[str]], UnitOfWork], Awaitable[Mapping[str, Mapping[str, int]]]]
"""Destroys what a feature keeps of members who are erased, `{member id: groups in which they had a seat}`, in
that transaction; answers what it destroyed, by member and kind."""
SetLink = Callable[[Identity, str, str | None], Awaitable[Group]]
"""Sets or withdraws the link of a group."""
TakeRoster = Callable[[Identity, str, bytes, bool], Awaitable[Job]]
"""Reconciles a roster, as text in any form, with a group; the flag says whether it is complete."""
LinkChanged = Callable[[Identity, Group, Group, UnitOfWork], Awaitable[None]]
"""Told of a group before and after its link has changed, both opened, in that transaction."""


class Core:
    """The runtime, settings, metrics and stores of the service, the policy in force, and seating.

    `new_units` is set when this process has created units: members who wait for them are placed at once.
    Features that follow seats or links, which other features change, add themselves to `on_seats_changed` and
    `on_link_changed`, and those that keep something of a member to `on_erased`.
    `set_link` and `take_roster` are what two features offer a third.
    """

    def __init__(self, runtime: Runtime, settings: GroupsSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.metrics = GroupsMetrics(runtime.registry)
        self.store = CoreStore(runtime.database)
        self.seats = SeatStore(runtime.database)
        self.policies = Policies(PolicyVersions(runtime.database), settings.group_capacity)
        self.seating = self.seating_in(self.seats)
        self.observations = ObservationStore(runtime.database)
        self.vault = Vault(runtime.client, runtime.database, settings.master_keys)
        self.links = InviteLinks(self.vault)
        self.new_units = asyncio.Event()
        self.on_seats_changed: list[SeatsChanged] = []
        self.on_link_changed: list[LinkChanged] = []
        self.on_erased: list[Erased] = []
        self.set_link: SetLink
        self.take_roster: TakeRoster
        self.members = _peer(runtime, settings)

    def seating_in(self, seats: SeatStore) -> SeatingService:
        """Seating with its groups and waiting lists in another store."""
        runtime = self.runtime
        return SeatingService(
            self.store,
            seats,
            self.policies,
            self.metrics,
            runtime.server_clock,
            self.seats_changed,
            runtime.successions,
        )

    async def seats_changed(self, events: Sequence[Numbered], work: UnitOfWork) -> None:
        for told in self.on_seats_changed:
            await told(events, work)

    async def erased(
        self, held: Mapping[str, Sequence[str]], work: UnitOfWork
    ) -> dict[str, Mapping[str, int]]:
        """Have all features destroy what they keep of these members: what that was, by member and kind."""
        destroyed: dict[str, Mapping[str, int]] = {}
        for erase in self.on_erased:
            for member_id, counts in (await erase(held, work)).items():
                destroyed[member_id] = {**destroyed.get(member_id, {}), **counts}
        return destroyed

    async def link_changed(self, caller: Identity, before: Group, after: Group, work: UnitOfWork) -> None:
        if before.invite_link != after.invite_link:
            for told in self.on_link_changed:
                await told(caller, before, after, work)

    def feature(self) -> Feature:
        peers = [self.members.close] if self.members else []
        return Feature(
            slow_gauges=[vault_key(self.vault, self.runtime.registry)],
            migrations=[*MIGRATIONS, *seating_store.MIGRATIONS, *OBSERVATION_MIGRATIONS],
            on_close=[*peers, self.vault.close],
        )


def _peer(runtime: Runtime, settings: GroupsSettings) -> Peer | None:
    """The members service, if this one is to call it."""
    if settings.members_url is None or settings.service_token_file is None:
        return None
    errors: Counter = peer_errors(runtime.registry)
    token = ServiceToken(settings.service_token_file)
    token_expiry(runtime.registry).set_function(token.expires_at)
    return Peer("members", settings.members_url, token, errors)
