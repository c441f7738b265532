"""Analytics decides nothing and owns no topic, so there is nothing to restore: the log itself makes it anew."""

from __future__ import annotations

from collections.abc import Sequence

from services.analytics.domain import KINDS
from services.shared.kernel import Kernel
from services.shared.rebuild import Plan


def plan(kernel: Kernel) -> Plan:
    async def summary() -> Sequence[str]:
        counts = [(kind.name, await kernel.database[kind.name].estimated_document_count()) for kind in KINDS]
        return [", ".join(f"{count} {name}" for name, count in counts)]

    return Plan(summary=summary, restoring={})
