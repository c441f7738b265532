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
from services.shared.crypto import Vault
from services.shared.eventkit.broker import Broker
from services.shared.kernel import Kernel
from services.shared.vitals import vault_key

DESCRIPTION = "Who is a member: registration, consent, unit and contact, and the events that tell the others."


def build(settings: MembersSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> FastAPI:
    kernel = Kernel(settings, clock=clock, broker=broker)
    vault = Vault(kernel.client, kernel.database, settings.master_keys)
    kernel.vitals.add(vault_key(vault, kernel.registry))
    metrics = MembersMetrics(kernel.registry)
    store = MemberStore(kernel.database)
    contacts = Contacts(vault, BlindIndex(settings.blind_index_key))
    directory = Directory(store, contacts, kernel.clock, metrics)
    registrar = Registrar(
        kernel.outbox,
        store,
        Answers(kernel.database),
        contacts,
        kernel.clock,
        metrics,
        kernel.metrics,
    )
    membership = Membership(kernel.outbox, store, directory, contacts, kernel.clock, metrics)
    return kernel.app(
        description=DESCRIPTION,
        routers=[router],
        migrations=MIGRATIONS,
        state={"members": Members(registrar, membership, directory)},
        on_stop=[registrar.close, vault.close],
    )
