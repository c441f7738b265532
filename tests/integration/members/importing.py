"""Steps of the tests of imports."""

from __future__ import annotations

import csv
import io
import secrets
from typing import Any

from services.shared.database import Document
from tests.integration.members.conftest import UNIT, Service

CSV = {"content-type": "text/csv"}
IMPORTER = "members:write members:read contacts:read"


def a_phone() -> str:
    return f"98{secrets.randbelow(10**8):08d}"


async def send(service: Service, content: bytes | str, *, query: str = "", **headers: str) -> Any:
    body = content if isinstance(content, bytes) else content.encode()
    path = f"/v1/imports?unit={UNIT}{query}"
    return await service.http.post(path, content=body, headers=CSV | headers)


async def planned(service: Service, content: bytes | str, **how: Any) -> Document:
    """The import of the file once its plan is made."""
    answer = await send(service, content, **how)
    assert answer.status_code == 202, answer.text
    return await reaching(service, answer.json()["id"], "planned")


async def applied(service: Service, import_id: str) -> Document:
    answer = await service.http.post(f"/v1/imports/{import_id}/apply")
    assert answer.status_code == 202, answer.text
    return await reaching(service, import_id, "applied")


async def reaching(service: Service, import_id: str, state: str) -> Document:
    found: Document = {}

    async def reached() -> bool:
        nonlocal found
        found = (await service.http.get(f"/v1/imports/{import_id}")).json()
        assert found["state"] != "failed", found
        return bool(found["state"] == state)

    await service.app.until(reached, 60)
    return found


async def refused(service: Service, import_id: str) -> list[dict[str, str]]:
    answer = await service.http.get(f"/v1/imports/{import_id}/errors")
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


def outcomes(found: Document) -> dict[str, int]:
    words = ("new", "changed", "unchanged", "duplicate", "refused")
    return {word: found["plan"][word] for word in words if found["plan"][word]}
