"""The rebuild plan: analytics decides nothing and owns no topic, so the log itself makes its state anew."""

from __future__ import annotations

from collections.abc import Sequence

from services.analytics.core.places import Pointers
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime


def plan(runtime: Runtime) -> Plan:
    async def summary() -> Sequence[str]:
        pointer = await Pointers(runtime.database).read()
        counts = [
            (name, await runtime.database[place.named("facts")].estimated_document_count())
            for name, place in pointer.live.items()
        ]
        return [", ".join(f"{count} {name}" for name, count in counts)]

    return Plan(summary=summary, restores={})
