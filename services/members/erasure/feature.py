"""Erasure of members, and retention of contacts that are not needed any more."""

from __future__ import annotations

from datetime import timedelta

from services.members.core.core import Core
from services.members.erasure.api import erasures_router, request_router
from services.members.erasure.due import DUE, RETENTION, DueErasures, Retention, overdue
from services.members.erasure.service import Erasures
from services.members.erasure.store import MIGRATIONS, RetentionStore
from services.members.settings import MembersSettings
from services.shared.contracts.analytics import AnalyticsErasureAcknowledged
from services.shared.contracts.groups import GroupsErasureAcknowledged
from services.shared.contracts.notifications import NotificationsErasureAcknowledged
from services.shared.runtime import Feature


def erasure(core: Core, settings: MembersSettings) -> Feature:
    runtime, store = core.runtime, core.erasures
    service = Erasures(core, timedelta(seconds=settings.erasure_again_seconds))
    keep = timedelta(days=settings.left_contacts_days)
    late = timedelta(seconds=settings.erasure_late_seconds)
    retention = Retention(
        RetentionStore(runtime.database), core.contacts, runtime.server_clock, core.metrics, keep
    )
    answers = (AnalyticsErasureAcknowledged, GroupsErasureAcknowledged, NotificationsErasureAcknowledged)
    return Feature(
        routers=[request_router(service), erasures_router(service)],
        subscriptions=dict.fromkeys(answers, service.acknowledged),
        loops={
            DUE: DueErasures(service, store, runtime.server_clock).run,
            RETENTION: retention.run,
        },
        slow_gauges=[overdue(store, runtime.server_clock, runtime.registry, late)],
        migrations=MIGRATIONS,
    )
