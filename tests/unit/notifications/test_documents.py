"""Documents are those of the released versions: old and new processes share one database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from services.notifications.core.domain import Attempt, Cause, Notification, OutcomeClass, State
from services.notifications.core.store import notification_document, notification_of

NOW = datetime(2025, 6, 1, tzinfo=UTC)
QUEUED = Notification(
    id="n",
    member_id="m",
    unit="BR-A",
    purpose="welcome",
    template="welcome",
    language="hi",
    channel="whatsapp",
    group_id="g",
    state=State.QUEUED,
    cause=Cause("request", "trace", "event"),
    created_at=NOW,
    updated_at=NOW,
    due_at=NOW,
    sequence=1,
)
DOCUMENT = {
    "_id": "n",
    "member_id": "m",
    "unit": "BR-A",
    "purpose": "welcome",
    "template": "welcome",
    "language": "hi",
    "channel": "whatsapp",
    "group_id": "g",
    "state": "queued",
    "open": True,
    "attempts": [],
    "due_at": NOW,
    "sequence": 1,
    "cause": {"correlation_id": "request", "traceparent": "trace", "causation_id": "event"},
    "created_at": NOW,
    "updated_at": NOW,
}


def test_a_queued_notification_has_the_fields_that_have_a_value_and_is_open():
    assert notification_document(QUEUED) == DOCUMENT
    assert notification_of(DOCUMENT) == QUEUED


def test_a_finished_one_is_in_no_index_of_the_dispatcher():
    attempts = (
        Attempt(NOW, "recording", OutcomeClass.TRANSIENT, "throttled"),
        Attempt(NOW, "recording", OutcomeClass.SENT),
    )
    sent = replace(QUEUED, state=State.SENT, attempts=attempts, due_at=None)
    document = notification_document(sent)
    assert not {"open", "due_at", "claim", "held_for", "reason", "stop"} & document.keys()
    assert document["attempts"] == [
        {"at": NOW, "sender": "recording", "outcome": "transient", "error_class": "throttled"},
        {"at": NOW, "sender": "recording", "outcome": "sent"},
    ]
    assert notification_of(document) == sent
