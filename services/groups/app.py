"""The groups service: its core and its features."""

from __future__ import annotations

from services.groups.admins.feature import admins
from services.groups.chat_groups.feature import chat_groups
from services.groups.core.core import Core
from services.groups.invites.feature import invites
from services.groups.placement.feature import placement
from services.groups.placement.handlers import unit_of
from services.groups.policy.feature import policy
from services.groups.recovery.feature import recovery
from services.groups.rosters.feature import rosters
from services.groups.settings import GroupsSettings
from services.groups.tree.feature import tree
from services.shared.clock import Clock
from services.shared.messaging import Broker
from services.shared.runtime import Runtime, Service, successions


def build(settings: GroupsSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Service:
    core = Core(Runtime(settings, clock=clock, broker=broker), settings)
    return Service(
        core.runtime,
        [
            core.feature(),
            successions(core.runtime.successions, hears=False),
            tree(core),
            chat_groups(core),
            placement(core),
            policy(core),
            admins(core),
            rosters(core),
            invites(core),
            recovery(),
        ],
        description="The unit tree, the groups of each unit, and the place of every member.",
        affinity=unit_of,
    )
