"""The composition of the members service."""

from __future__ import annotations

from fastapi import FastAPI

from services.members.api import Members, router
from services.members.contacts import Contacts
from services.members.directory import Directory
from services.members.membership import Membership
from services.members.metrics import MembersMetrics
from services.members.phones import BlindIndex
from services.members.registration import Registrar
from services.members.settings import MembersSettings
from services.members.store import MIGRATIONS, Answers, MemberStore
from services.shared.clock import Clock
from services.shared.encryption import Vault
from services.shared.messaging import Broker
from services.shared.runtime import Runtime, vault_key

DESCRIPTION = "Who is a member: registration, consent, unit and contact, and the events that tell the others."


def build(settings: MembersSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> FastAPI:
    runtime = Runtime(settings, clock=clock, broker=broker)
    vault = Vault(runtime.client, runtime.database, settings.master_keys)
    runtime.slow_gauges.add(vault_key(vault, runtime.registry))
    metrics = MembersMetrics(runtime.registry)
    store = MemberStore(runtime.database)
    contacts = Contacts(vault, BlindIndex(settings.blind_index_key))
    directory = Directory(store, contacts, runtime.clock, metrics)
    registrar = Registrar(
        runtime.outbox,
        store,
        Answers(runtime.database),
        contacts,
        runtime.clock,
        metrics,
        runtime.metrics,
    )
    membership = Membership(runtime.outbox, store, directory, contacts, runtime.clock, metrics)
    return runtime.app(
        description=DESCRIPTION,
        routers=[router],
        migrations=MIGRATIONS,
        state={"members": Members(registrar, membership, directory)},
        on_stop=[registrar.close, vault.close],
    )
