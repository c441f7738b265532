"""Analytics decides nothing and owns no topic, so there is nothing to restore: the log itself makes it anew."""

from __future__ import annotations

from collections.abc import Sequence

from services.analytics.domain import KINDS
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime


def plan(runtime: Runtime) -> Plan:
    async def summary() -> Sequence[str]:
        counts = [(kind.name, await runtime.database[kind.name].estimated_document_count()) for kind in KINDS]
        return [", ".join(f"{count} {name}" for name, count in counts)]

    return Plan(summary=summary, restoring={})
