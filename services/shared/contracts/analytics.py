"""Events of the analytics service. Its figures are made from the log and are in no event."""

from __future__ import annotations

from services.shared.contracts.erasure import ErasureAcknowledged

TOPIC = "sangathan.analytics"


class AnalyticsErasureAcknowledged(
    ErasureAcknowledged, type="analytics.erasure_acknowledged", topic=TOPIC, subject="erasure_id"
):
    """Analytics has forgotten what was particular to the member; sums over many people stay."""
