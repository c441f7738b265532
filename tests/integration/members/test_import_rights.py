"""Rights of imports: nobody writes, or learns, more by a file than by a request."""

from __future__ import annotations

import asyncio

from services.shared.database import Document
from tests.integration.members.conftest import Service
from tests.integration.members.importing import (
    IMPORTER,
    a_phone,
    outcomes,
    planned,
    reaching,
    send,
)


async def test_a_caller_imports_into_their_own_units_alone(service: Service) -> None:
    elsewhere = await service.register(name="Elsewhere", unit="BR-GAYA")
    own = await service.register(name="Own", unit="BR-SARAN")
    saran = service.app.auth(IMPORTER, "BR-SARAN")
    rows = [
        f"A,{a_phone()},BR-SARAN-MANJHI",
        f"B,{a_phone()},BR-GAYA",
        f"C,{elsewhere['phone']},BR-SARAN",
        f"Own,{own['phone']},BR-GAYA",
        f"D,{a_phone()},BR-SARANX",
    ]
    content = "name,phone,unit\n" + "\n".join(rows)
    assert (await send(service, content, **service.app.auth(IMPORTER, "BR-GAYA"))).status_code == 404
    assert (await send(service, content, **service.app.auth(IMPORTER, None))).status_code == 404
    plan = await planned(service, content, **saran)
    assert plan["plan"]["reasons"] == {"unit_outside": 3, "phone_taken": 1}
    assert set(plan["plan"]["by_district"]) == {"BR-SARAN", "none"}
    for path in ("", "/rows", "/errors"):
        answer = await service.http.get(
            f"/v1/imports/{plan['id']}{path}",
            headers=service.app.auth(IMPORTER, "BR-GAYA"),
        )
        assert answer.status_code == 404
    gaya = service.app.auth(IMPORTER, "BR-GAYA")
    assert (await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=gaya)).status_code == 404
    assert (await service.http.get("/v1/imports", headers=gaya)).json()["items"] == []
    [listed] = (await service.http.get("/v1/imports", headers=saran)).json()["items"]
    assert listed["id"] == plan["id"]
    for scopes in ("members:write members:read", "members:read contacts:read"):
        lesser = service.app.auth(scopes, "BR-SARAN")
        assert (await send(service, content, **lesser)).status_code == 403
        assert (await service.http.get(f"/v1/imports/{plan['id']}/errors", headers=lesser)).status_code == 403


async def test_a_job_checks_the_rights_of_who_applies(service: Service) -> None:
    plan = await planned(service, f"name,phone,unit\nA,{a_phone()},BR-GAYA\nB,{a_phone()},BR-SARAN\n")
    await service.db["imports"].update_one({"_id": plan["id"]}, {"$set": {"unit": "BR-SARAN"}})
    saran = service.app.auth(IMPORTER, "BR-SARAN")
    assert (await service.http.post(f"/v1/imports/{plan['id']}/apply", headers=saran)).status_code == 202
    done = await reaching(service, plan["id"], "applied")
    assert done["applied"] == {"created": 1, "updated": 0, "set_aside": 1}


async def test_no_list_of_numbers_can_be_tried_against_other_units(service: Service) -> None:
    others = [await service.register(unit="BR-GAYA") for _ in range(5)]
    saran = service.app.auth(IMPORTER, "BR-SARAN", sub="curious")
    few = "name,phone\n" + "".join(f"A,{other['phone']}\n" for other in others)
    plan = await planned(service, few, **saran)
    assert plan["plan"]["reasons"] == {"phone_taken": 5}
    read = await service.db["contact_reads"].find_one({"subject": "curious"})
    assert read is not None
    assert (sorted(read["ids"]), read["via"]) == (sorted(other["id"] for other in others), "phone_of_import")

    more = await asyncio.gather(*(service.register(unit="BR-GAYA") for _ in range(100)))
    many = "name,phone\n" + "".join(f"A,{other['phone']}\n" for other in more)
    sent = (await send(service, many, **saran)).json()
    found: Document = sent

    async def ended() -> bool:
        nonlocal found
        found = (await service.http.get(f"/v1/imports/{sent['id']}")).json()
        return bool(found["state"] != "planning")

    await service.app.until(ended)
    assert (found["state"], found["reason"]) == ("failed", "too-many-taken-phones")
    assert outcomes(found) == {}
