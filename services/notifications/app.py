"""The composition of the notifications service."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from services.notifications.api import router
from services.notifications.composing import Composer
from services.notifications.contacts import ContactBook
from services.notifications.dispatcher import Dispatcher
from services.notifications.domain import RetryPolicy
from services.notifications.handlers import Handlers
from services.notifications.metrics import NotificationMetrics
from services.notifications.migrations import MIGRATIONS
from services.notifications.peers import GroupsApi, MembersApi, Peer, ServiceToken
from services.notifications.senders.base import Sender
from services.notifications.senders.console import ConsoleSender
from services.notifications.senders.recording import RecordingSender
from services.notifications.settings import NotificationsSettings
from services.notifications.store import Store
from services.notifications.subscriptions import subscriptions
from services.notifications.texts import Texts
from services.shared.clock import Clock
from services.shared.encryption import Vault
from services.shared.messaging import Broker
from services.shared.runtime import Runtime, vault_key


def build(
    settings: NotificationsSettings,
    *,
    clock: Clock | None = None,
    broker: Broker | None = None,
    sender: Sender | None = None,
) -> FastAPI:
    """`sender` replaces the one that the settings name."""
    runtime = Runtime(settings, clock=clock, broker=broker)
    metrics = NotificationMetrics(runtime.registry)
    store, texts, due = Store(runtime.database), Texts(), asyncio.Event()
    vault = Vault(runtime.client, runtime.database, settings.master_keys)
    runtime.slow_gauges.add(vault_key(vault, runtime.registry))
    token = ServiceToken(settings.service_token_file)
    metrics.watch_token(token.expires_at)
    members = Peer("members", settings.members_url, token, metrics)
    groups = Peer("groups", settings.groups_url, token, metrics)
    sender = sender or _sender(settings, runtime, vault)

    dispatcher = Dispatcher(
        store=store,
        outbox=runtime.outbox,
        contacts=ContactBook(
            store, vault, MembersApi(members), runtime.clock, metrics, seconds=settings.contact_seconds
        ),
        groups=GroupsApi(groups),
        composer=Composer(texts, sender.name),
        sender=sender,
        policy=RetryPolicy(settings.send_tries, settings.send_retry_seconds),
        clock=runtime.clock,
        metrics=metrics,
        due=due,
        max_batch=settings.dispatch_batch,
        claim_seconds=settings.claim_seconds,
    )
    runtime.loop("dispatcher", dispatcher.run)
    runtime.subscribe(subscriptions(Handlers(store, texts, runtime.clock, metrics, due)))
    return runtime.app(
        description="Every message to a member: with consent, in their language, once, and why it was or was not sent.",
        routers=[router],
        migrations=MIGRATIONS,
        state={"store": store, "dispatcher": dispatcher},
        on_close=[members.close, groups.close, vault.close],
    )


def _sender(settings: NotificationsSettings, runtime: Runtime, vault: Vault) -> Sender:
    if settings.sender == "console":
        return ConsoleSender()
    return RecordingSender(runtime.database, vault, runtime.clock)
