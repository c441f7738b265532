"""The budget of welcomes: imports together welcome so many people an hour, whichever process applies them."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from infra.local.keys import Keys
from services.members.imports import announcing
from services.members.settings import MembersSettings
from services.shared.database import Document
from services.shared.jobs.run import Run
from tests.integration.members.conftest import Service, serving
from tests.integration.members.importing import IMPORTER, a_phone, planned, reaching
from tests.integration.members.test_import_consents import CONSENTS, register_notice

WELCOME = f"{CONSENTS}&announce=welcome"
SCOPES = f"{IMPORTER} consents:write"


def people(count: int, consent: str = "yes") -> str:
    return "name,phone,consent\n" + "".join(f"Asha,{a_phone()},{consent}\n" for _ in range(count))


async def plan_of(service: Service, count: int, query: str = WELCOME, consent: str = "yes") -> Document:
    return await planned(service, people(count, consent), query=query, **service.app.auth(SCOPES))


async def apply(service: Service, import_id: str) -> str:
    """The path of the job that applies it."""
    answer = await service.http.post(f"/v1/imports/{import_id}/apply", headers=service.app.auth(SCOPES))
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def waiting(service: Service, import_id: str) -> Document:
    """The import once it says that it waits."""
    found: Document = {}

    async def waits() -> bool:
        nonlocal found
        found = (await service.http.get(f"/v1/imports/{import_id}")).json()
        return found["progress"]["waits_until"] is not None

    await service.app.until(waits)
    return found


async def test_two_processes_keep_to_one_budget(
    settings: MembersSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "PAGE_SECONDS", 0.5)
    changed = settings.model_copy(update={"imports_welcome_per_hour": 4 * 3600})
    async with serving(changed, keys) as one, serving(changed, keys) as other:
        await register_notice(one)
        plans = [await plan_of(service, 4) for service in (one, other)]
        assert [(p["plan"]["welcomed"], p["plan"]["welcoming_seconds"]) for p in plans] == [(4, 1), (4, 1)]
        for service, plan in zip((one, other), plans, strict=True):
            await apply(service, plan["id"])
        for plan in plans:
            done = await reaching(one, plan["id"], "applied")
            assert done["applied"] == {"created": 4, "updated": 0, "set_aside": 0}
        rows = await one.db["members"].find().to_list(None)
    times = sorted({row["joined_at"] for row in rows})
    assert [sum(row["joined_at"] == at for row in rows) for at in times] == [2, 2, 2, 2]
    # A busy machine may be late with the first, but none comes before its time.
    assert times[-1] - times[0] >= timedelta(seconds=1)


async def test_an_import_that_waits_says_so_and_can_be_paused_and_cancelled(
    settings: MembersSettings, keys: Keys
) -> None:
    slow = settings.model_copy(update={"imports_welcome_per_hour": 1})
    async with serving(slow, keys) as service:
        await register_notice(service)
        plan = await plan_of(service, 3)
        assert plan["plan"]["welcoming_seconds"] == 3 * 3600
        job = await apply(service, plan["id"])
        found = await waiting(service, plan["id"])
        assert (found["state"], found["progress"]["done"], found["applied"]["created"]) == ("applying", 1, 1)
        until = found["progress"]["waits_until"]
        # It keeps nobody else waiting: neither those who welcome nobody, nor changes.
        quiet = await plan_of(service, 30, CONSENTS)
        await apply(service, quiet["id"])
        await reaching(service, quiet["id"], "applied")
        refusing = await plan_of(service, 3, consent="no")
        assert refusing["plan"]["welcomed"] == 0
        await apply(service, refusing["id"])
        await reaching(service, refusing["id"], "applied")

        for act, state in (("pause", "paused"), ("resume", "applying"), ("cancel", "cancelled")):
            began = time.monotonic()
            assert (await service.http.post(f"{job}/{act}")).status_code == 200
            found = (await service.http.get(f"/v1/imports/{plan['id']}")).json()
            assert (found["state"], time.monotonic() - began < 1) == (state, True)
            shown = until if act == "resume" else None
            assert found["progress"]["waits_until"] == shown
        assert found["applied"]["created"] == 1
        await apply(service, plan["id"])  # a new job has no budget of its own
        assert (await waiting(service, plan["id"]))["applied"]["created"] == 1


async def test_a_plan_that_is_deleted_before_its_turn_is_not_called_applied(service: Service) -> None:
    await register_notice(service)
    plan = await plan_of(service, 2)
    await service.db["import_pages"].delete_many({})
    await apply(service, plan["id"])

    async def failed() -> bool:
        found = (await service.http.get(f"/v1/imports/{plan['id']}")).json()
        return (found["state"], found["reason"]) == ("failed", "plan_expired")

    await service.app.until(failed)


async def test_nobody_joins_in_the_past(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is made ready while the one before is committed; then the job may have to wait."""
    looks = 0

    async def congested(run: Run) -> bool:
        nonlocal looks
        looks += 1
        await asyncio.sleep(1.2 if looks == 2 else 0)
        return False

    await register_notice(service)
    monkeypatch.setattr(announcing, "SLICE_ROWS", 1)
    plan = await plan_of(service, 2, CONSENTS)
    monkeypatch.setattr(Run, "_congested", congested)
    await apply(service, plan["id"])
    await reaching(service, plan["id"], "applied")
    first, second = [row["joined_at"] async for row in service.db["members"].find().sort("_id", 1)]
    assert second - first > timedelta(seconds=1.1)
