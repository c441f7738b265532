"""The core of notifications: the parts that its features are built on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from services.notifications.core.breakers import store as breakers
from services.notifications.core.breakers.breakers import Breakers
from services.notifications.core.breakers.store import BreakerStore
from services.notifications.core.clients.groups import GroupsClient
from services.notifications.core.clients.members import MembersClient
from services.notifications.core.clients.service import ServiceClient
from services.notifications.core.deliveries import store as deliveries
from services.notifications.core.deliveries.applying import ReportApplier
from services.notifications.core.deliveries.store import DeliveryStore
from services.notifications.core.domain import Patience, RetryPolicy
from services.notifications.core.fingerprints import Fingerprints
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.opting_out import OptingOut
from services.notifications.core.policies import store as policies
from services.notifications.core.policies.store import BudgetStore, PolicyStore
from services.notifications.core.promises import Promises
from services.notifications.core.store import (
    MIGRATIONS,
    InviteStore,
    MemberSequences,
    NotificationStore,
    RecipientStore,
)
from services.notifications.core.suppressions import store as suppressions
from services.notifications.core.suppressions.store import SuppressionStore
from services.notifications.core.templates import store as templates
from services.notifications.core.templates.changes import TemplateChanges
from services.notifications.core.templates.store import TemplateStore
from services.notifications.core.texts import Texts
from services.notifications.core.unsubscribing import UnsubscribeLinks
from services.notifications.core.windows import store as windows
from services.notifications.core.windows.store import WindowStore
from services.notifications.core.writing import NotificationWriter
from services.notifications.settings import NotificationsSettings
from services.shared.encryption import Vault
from services.shared.peers import ServiceToken
from services.shared.runtime import Feature, Learnt, Runtime, vault_key

SPREAD: Final = 0.25
"""By which share, at most, the pause after a failed try is longer."""


class Core:
    def __init__(self, runtime: Runtime, settings: NotificationsSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.clock = runtime.server_clock
        """For all times of notifications: their due times are compared with those of other processes."""
        self.metrics = NotificationMetrics(runtime.registry)
        self.recipients = RecipientStore(runtime.database)
        self.invites = InviteStore(runtime.database)
        self.notifications = NotificationStore(runtime.database)
        self.deliveries = DeliveryStore(runtime.database)
        self.suppressions = SuppressionStore(runtime.database)
        self.sequences = MemberSequences(runtime.database)
        self.policies = PolicyStore(runtime.database)
        self.budgets = BudgetStore(runtime.database)
        self.vault = Vault(runtime.client, runtime.database, settings.master_keys)
        self.fingerprints = Fingerprints(runtime.database, self.vault)
        self.templates = TemplateStore(runtime.database)
        self.unsubscribe_links = UnsubscribeLinks(self.fingerprints, settings.public_url)
        self.windows = WindowStore(runtime.database)
        self.texts = Texts(self.templates, value_characters=settings.dlt_value_characters)
        self.due = asyncio.Event()
        """Set when this process may have made a notification due; the dispatcher waits for it."""
        self.template_changes = TemplateChanges(self.templates, self.notifications, self.clock, self.due)
        self.patience = patience_of(settings)
        self.writer = NotificationWriter(self.notifications, self.metrics, self.due)
        self.promises = Promises(
            self.recipients,
            self.invites,
            self.notifications,
            self.writer,
            self.texts,
            self.clock,
            self.patience.lives,
        )
        self.policy = RetryPolicy(
            settings.send_tries,
            settings.send_retry_seconds,
            SPREAD,
            timedelta(hours=settings.outcome_hours),
        )
        self.breakers = Breakers(BreakerStore(runtime.database), self.clock)
        self.opting_out = OptingOut(
            self.suppressions,
            self.recipients,
            self.notifications,
            self.sequences,
            self.texts,
            self.clock,
            self.metrics,
            self.writer,
        )
        self.reports = ReportApplier(
            self.deliveries,
            self.notifications,
            self.recipients,
            self.sequences,
            self.opting_out,
            self.promises,
            self.windows,
            self.breakers,
            self.policy,
            self.clock,
            self.metrics,
            self.due,
        )
        """Applies what providers tell, by callbacks and polls."""
        token = ServiceToken(settings.service_token_file)
        self.metrics.watch_token(token.expires_at)
        self.members = MembersClient(ServiceClient("members", settings.members_url, token, self.metrics))
        self.groups = GroupsClient(ServiceClient("groups", settings.groups_url, token, self.metrics))

    def feature(self) -> Feature:
        return Feature(
            slow_gauges=[vault_key(self.vault, self.runtime.registry)],
            migrations=(
                *MIGRATIONS,
                *deliveries.MIGRATIONS,
                *breakers.MIGRATIONS,
                *suppressions.MIGRATIONS,
                *policies.MIGRATIONS,
                *templates.MIGRATIONS,
                *windows.MIGRATIONS,
            ),
            learnt=[
                Learnt("recipients", self.recipients.forget_heard, self.recipients.heard),
                Learnt("group_invites", self.invites.forget_heard, self.invites.sequences),
            ],
            on_close=[self.members.close, self.groups.close, self.vault.close],
        )


def patience_of(settings: NotificationsSettings) -> Patience:
    """How long welcomes wait."""
    return Patience(timedelta(hours=settings.welcome_wait_hours), timedelta(days=settings.welcome_days))
