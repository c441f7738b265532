"""The metrics of membership. Labels are closed words: no unit, no id."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class MembersMetrics:
    """Registered once per process in the registry of its service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registrations = Counter(
            "sangathan_members_registrations",
            "Registrations by outcome (registered, replayed, phone_taken, key_reused, unknown_inviter).",
            ["outcome"],
            registry=registry,
        )
        self.changes = Counter(
            "sangathan_members_changes",
            "Changes of members that took effect (updated, moved, left).",
            ["change"],
            registry=registry,
        )
        self.contacts_shown = Counter(
            "sangathan_members_contacts_shown",
            "Contacts decrypted for a caller, each with a record of who read it, by route"
            " (get, list, resolve, change).",
            ["via"],
            registry=registry,
        )
