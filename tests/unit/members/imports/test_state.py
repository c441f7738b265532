"""The state of an import, whose document and jobs are read one after the other."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from services.members.imports.service import Imports
from services.shared.database import Document
from services.shared.identity import Identity

ID = "01a20901-0000-7000-8000-000000000001"
CALLER: Any = SimpleNamespace(can_access=lambda unit: True)


class World:
    """A store and jobs. With each look at a job, the world goes on by one stage."""

    def __init__(self, *stages: tuple[Document, dict[str, str]]) -> None:
        self._stages = list(stages)

    async def find(self, _: str) -> Document:
        return {"_id": ID, "unit": "BR", "apply_job": None, **self._stages[0][0]}

    async def get(self, job_id: str) -> Any:
        if len(self._stages) > 1:
            self._stages.pop(0)
        state = self._stages[0][1].get(job_id)
        return SimpleNamespace(state=state) if state else None


def imports_in(world: World) -> Imports:
    core: Any = SimpleNamespace(
        runtime=SimpleNamespace(outbox=None, server_clock=None, jobs=world),
        **dict.fromkeys(("vault", "taken_phones", "notices", "reader")),
    )
    announcing: Any = SimpleNamespace(takes=lambda document: timedelta())
    store: Any = world
    nothing: Any = None
    return Imports(core, store, nothing, announcing, nothing)


PLANNING: tuple[Document, dict[str, str]] = ({}, {ID: "running"})
PLANNED: tuple[Document, dict[str, str]] = ({"planned_at": 1}, {ID: "succeeded"})
APPLYING: tuple[Document, dict[str, str]] = (
    {"planned_at": 1, "apply_job": "b"},
    {ID: "succeeded", "b": "running"},
)
APPLIED: tuple[Document, dict[str, str]] = (
    {"planned_at": 1, "apply_job": "b", "applied_at": 2},
    {ID: "succeeded", "b": "succeeded"},
)


@pytest.mark.parametrize(
    ("stages", "state"),
    [
        ((PLANNING, PLANNED), "planned"),
        ((PLANNING, APPLIED), "applied"),
        ((APPLYING, APPLYING, APPLIED), "applied"),
        ((({}, {}),), "expired"),
        ((({"planned_at": 1, "apply_job": "b"}, {}),), "expired"),
    ],
)
async def test_a_job_that_ends_between_the_looks_has_not_expired(stages: Any, state: str) -> None:
    caller: Identity = CALLER
    assert (await imports_in(World(*stages)).get(caller, ID)).state == state
