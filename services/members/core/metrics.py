"""The metrics of membership. Labels are closed words: no unit, no id."""

from __future__ import annotations

from itertools import product

from prometheus_client import CollectorRegistry, Counter

from services.shared.contracts.vocabulary import Purpose


class MembersMetrics:
    """Registered once per process in the registry of its service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registrations = Counter(
            "sangathan_members_registrations",
            "Registrations by outcome (registered, replayed, phone_taken, key_reused, unknown_inviter,"
            " unreachable).",
            ["outcome"],
            registry=registry,
        )
        self.changes = Counter(
            "sangathan_members_changes",
            "Changes of members that took effect (updated, moved, left, roles, redrawn, aged).",
            ["change"],
            registry=registry,
        )
        self.consents = Counter(
            "sangathan_members_consents",
            "Consents given and withdrawn after registration, by purpose and state (given, withdrawn).",
            ["purpose", "state"],
            registry=registry,
        )
        # An increase is seen only of a series that was there before: a withdrawal may be the first.
        for purpose, state in product(Purpose, ("given", "withdrawn")):
            self.consents.labels(purpose.value, state)
        self.merges = Counter(
            "sangathan_members_merges",
            "Merges of two members by what was done (merged, undone).",
            ["change"],
            registry=registry,
        )
        self.import_rows = Counter(
            "sangathan_members_import_rows",
            "Rows of imports by outcome: planned as new, changed, unchanged, duplicate or refused;"
            " applied as created, updated or set_aside.",
            ["outcome"],
            registry=registry,
        )
        self.contacts_shown = Counter(
            "sangathan_members_contacts_shown",
            "Contacts decrypted for a caller, each with a record of who read it, by route"
            " (get, list, resolve, change, export, merge, dossier).",
            ["via"],
            registry=registry,
        )
        self.search_fields_refreshed = Counter(
            "sangathan_members_search_fields_refreshed",
            "Members whose search fields were derived after the fact, because a process of an earlier release"
            " had written them.",
            registry=registry,
        )
        self.phones_confirmed = Counter(
            "sangathan_members_phones_confirmed",
            "Callers told that an active member has a phone, each with a record of it, by what asked"
            " (phone_of_registration, phone_of_change, phone_of_import, phone_of_merge).",
            ["via"],
            registry=registry,
        )
        self.phones_limited = Counter(
            "sangathan_members_phones_limited",
            "Requests refused because their caller had been told of too many taken phones.",
            registry=registry,
        )
        self.phones_matched = Counter(
            "sangathan_members_phones_matched",
            "Entries of rosters by what they were found to be (member, stranger, several, unreadable).",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("member", "stranger", "several", "unreadable"):
            self.phones_matched.labels(outcome)
        self.erasures = Counter(
            "sangathan_members_erasures",
            "Steps of erasures (requested, asked_again, acknowledged, sealed, erased).",
            ["step"],
            registry=registry,
        )
        self.left_contacts_dropped = Counter(
            "sangathan_members_left_contacts_dropped",
            "Contacts destroyed because their member left long ago, or was merged for good.",
            registry=registry,
        )
