"""The routes of jobs: who sees what, and what may be done to a job in which state."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from infra.local.keys import AUDIENCE, ISSUER, Keys
from services.shared.http.app import create_app
from services.shared.http.auth import Authenticator
from services.shared.identity import Identity
from services.shared.runtime.jobs_api import jobs_router
from tests.integration.jobs.conftest import ANYBODY, Desk


@pytest.fixture
def app(desk: Desk, keys: Keys) -> FastAPI:
    authenticator = Authenticator(str(keys.jwks), issuer=ISSUER, audience=AUDIENCE, clock=desk.clock)
    router = jobs_router(desk.jobs, read_scope="jobs:read", write_scope="jobs:write")
    return create_app(
        service="test",
        routers=[router],
        registry=CollectorRegistry(),
        authenticator=authenticator,
        readiness={},
    )


@pytest.fixture
async def http(app: FastAPI, keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = bearer(keys, "jobs:read jobs:write", "BR-GAYA")
    async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


def bearer(keys: Keys, scopes: str, unit: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {keys.mint(scopes, unit)}"}


async def test_a_job_is_shown_without_its_input(desk: Desk, http: httpx2.AsyncClient) -> None:
    job = await desk.add(to=2)
    desk.start(desk.worker())
    done = await desk.until(job.id, "succeeded")
    answer = await http.get(f"/v1/jobs/{job.id}")
    assert answer.status_code == 200
    shown = answer.json()
    times = {name: shown.pop(name) for name in ("due_at", "created_at", "updated_at", "finished_at")}
    assert all(moment.endswith("Z") for moment in times.values())
    assert shown == {
        "id": job.id,
        "kind": "count",
        "state": "succeeded",
        "unit": "BR-GAYA",
        "progress": {"done": 2, "total": 2},
        "counts": {"counted": 2},
        "result": {"last": 1},
        "reason": None,
        "detail": None,
        "requested_by": done.requested_by.subject,
    }


async def test_a_job_is_paused_resumed_and_cancelled_until_it_has_ended(
    desk: Desk, http: httpx2.AsyncClient
) -> None:
    path = f"/v1/jobs/{(await desk.add()).id}"
    for change, state in (
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "waiting"),
        ("resume", "waiting"),
        ("cancel", "cancelled"),
    ):
        answer = await http.post(f"{path}/{change}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    for change in ("pause", "resume", "cancel"):
        answer = await http.post(f"{path}/{change}")
        assert answer.status_code == 409
        assert answer.json()["type"] == "urn:sangathan:problem:job-ended"
        assert answer.json()["state"] == "cancelled"
    assert (await http.get(path)).json()["finished_at"]


async def test_what_is_outside_the_callers_subtree_is_not_there(
    desk: Desk, http: httpx2.AsyncClient, keys: Keys
) -> None:
    everybodys = await desk.jobs.add("count", {}, Identity("root", frozenset(), "*"))
    patnas = await desk.jobs.add("count", {}, Identity("user-3", frozenset(), "BR-PATNA"))
    ours = await desk.jobs.add("count", {}, Identity("user-4", frozenset(), "BR-GAYA-TEKARI"))
    for path in (f"/v1/jobs/{everybodys.id}", f"/v1/jobs/{patnas.id}", "/v1/jobs/nobody"):
        assert (await http.get(path)).status_code == 404
        for change in ("pause", "resume", "cancel"):
            assert (await http.post(f"{path}/{change}")).status_code == 404
    assert [item["id"] for item in (await http.get("/v1/jobs")).json()["items"]] == [ours.id]
    root = bearer(keys, "jobs:read", "*")
    assert len((await http.get("/v1/jobs", headers=root)).json()["items"]) == 3
    assert (await http.get(f"/v1/jobs/{everybodys.id}", headers=root)).status_code == 200
    assert (await http.get("/v1/jobs", headers=bearer(keys, "jobs:read", None))).status_code == 404


async def test_scopes_are_needed(desk: Desk, http: httpx2.AsyncClient, keys: Keys) -> None:
    job = await desk.add()
    reader = bearer(keys, "jobs:read", "BR-GAYA")
    assert (await http.get(f"/v1/jobs/{job.id}", headers=reader)).status_code == 200
    assert (await http.post(f"/v1/jobs/{job.id}/cancel", headers=reader)).status_code == 403
    assert (await http.get("/v1/jobs", headers=bearer(keys, "other:read", "BR-GAYA"))).status_code == 403
    assert (await http.get("/v1/jobs", headers={"authorization": ""})).status_code == 401


async def test_a_list_is_walked_by_its_cursor(desk: Desk, http: httpx2.AsyncClient) -> None:
    wanted = [(await desk.add()).id for _ in range(5)]
    await desk.jobs.add("other", {}, ANYBODY)
    await desk.jobs.pause((await desk.add()).id)
    seen, params = [], {"limit": "2", "kind": "count", "state": "waiting"}
    while True:
        page = (await http.get("/v1/jobs", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert seen == wanted[::-1]
    assert (await http.get("/v1/jobs", params={**params, "kind": "other"})).status_code == 400
    assert (await http.get("/v1/jobs", params={"state": "odd"})).status_code == 422


def test_the_routes_document_their_errors(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert {"401", "403", "404", "409", "422"} <= paths["/v1/jobs/{id}/pause"]["post"]["responses"].keys()
    assert {"400", "401", "403", "422"} <= paths["/v1/jobs"]["get"]["responses"].keys()
