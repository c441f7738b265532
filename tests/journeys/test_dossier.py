"""The dossier of a member on the four services: whole or not at all, as JSON and as a page."""

from __future__ import annotations

import re
from typing import Any, Final

import httpx2
import pytest

from infra.local.demo.api import Api
from infra.local.keys import ADMIN_SCOPES
from infra.local.stack import LocalStack
from services.shared.ids import new_id
from tests.journeys.test_poison_and_stop import load_tree
from tests.journeys.test_repair import LINK, until

UNIT: Final = "BR-DOSSIER"
PHONE: Final = "+919876500771"
NAME: Final = "<script>alert(1)</script> \u202eआशा"


async def welcomed(api: Api) -> str:
    """The id of a member with a seat, a role and a welcome that was sent."""
    await load_tree(api)
    unit = {"level": "district", "name": {"en": "Dossier <b>", "hi": "विवरण"}}
    await api.send("PUT", "groups", f"/v1/units/{UNIT}", json=unit)
    consent = {"purpose": "welcome", "channel": "whatsapp", "notice": "v1", "language": "hi"}
    person = {"name": NAME, "phone": PHONE, "unit": UNIT, "consents": [consent]}
    person["platforms"] = [{"platform": "x", "handle": '"><img src=x onerror=alert(2)>'}]
    joined = await api.send(
        "POST", "members", "/v1/members", json=person, headers={"Idempotency-Key": new_id()}
    )
    id_ = str(joined.json()["id"])
    await api.send("PUT", "members", f"/v1/members/{id_}/roles/youth?unit={UNIT}", json={})

    async def seated() -> bool:
        return bool((await api.get("groups", "/v1/groups", unit=UNIT))["items"])

    async def sent() -> bool:
        items = (await api.get("notifications", "/v1/notifications", member=id_))["items"]
        return bool(items and items[0]["state"] == "sent")

    await until(seated)
    [group] = (await api.get("groups", "/v1/groups", unit=UNIT))["items"]
    current = await api.send("GET", "groups", f"/v1/groups/{group['id']}")
    match = {"If-Match": current.headers["etag"]}
    path = f"/v1/groups/{group['id']}"
    await api.send("PATCH", "groups", path, json={"invite_link": LINK}, headers=match)
    await until(sent)
    return id_


@pytest.mark.timeout(120)
async def test_a_dossier_has_what_the_four_services_hold_or_there_is_none(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=2) as api:
        id_ = await welcomed(api)
    url = f"{stack.urls['members']}/v1/members/{id_}/dossier"
    headers = {"authorization": f"Bearer {stack.mint('dossiers:read contacts:read', UNIT, sub='clerk')}"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers, timeout=30) as client:

        async def dossier() -> dict[str, Any]:
            answer = await client.get(url)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        async def counted() -> bool:
            return bool((await dossier())["analytics"]["member"])

        await until(counted)
        found = await dossier()
        assert (found["profile"]["phone"], found["profile"]["unit"]) == (PHONE, UNIT)
        assert [each["purpose"] for each in found["consents"]] == ["welcome"]
        assert [each["role"] for each in found["roles"]] == ["youth"]
        assert [each["change"] for each in found["role_changes"]] == ["given"]
        assert found["groups"]["placement"]["state"] in ("assigned", "invited")
        [message] = found["notifications"]["messages"]
        assert (message["purpose"], message["state"], message["address"]) == ("welcome", "sent", PHONE)
        assert LINK in message["text"]
        assert found["analytics"]["member"] | {"language": None} == {
            "unit": UNIT,
            "gender": "undisclosed",
            "language": None,
            "platforms": ["x"],
            "own_number": True,
            "joined": True,
            "left": False,
            "merged": False,
        }
        ways = {(each["subject"], each["via"]) for each in found["reads"]}
        assert ("clerk", "dossier") in ways, "this very read"
        assert ("notifications", "resolve") in ways

        page = await client.get(url, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt; आशा" in page.text
        assert not re.search(r"(src|href)=", re.sub(r"&[a-z#0-9]+;.*?&gt;", "", page.text)), "loads nothing"
        for text in (PHONE, LINK, "संदेश · Messages", "clerk", "youth"):
            assert text in page.text

        for path, unit in ((url, "BR-GAYA"), (url.replace(id_, new_id()), "*")):
            token = stack.mint("dossiers:read contacts:read", unit)
            other = await client.get(path, headers={"authorization": f"Bearer {token}"})
            assert other.status_code == 404, "outside the caller's units, or nobody"

        await stack.processes["analytics"].stop()
        try:
            answer = await client.get(url)
            assert answer.status_code == 503
            assert answer.json()["type"].endswith(":dossier-incomplete")
            assert answer.json()["detail"].endswith(": analytics")
            assert int(answer.headers["retry-after"]) > 0
            assert PHONE not in answer.text
        finally:
            await stack.start_again("analytics", {})
        await client.delete(
            url.removesuffix("/dossier"),
            headers={"authorization": f"Bearer {stack.mint('members:write', UNIT)}"},
        )
        assert (await dossier())["profile"]["status"] == "left"


@pytest.mark.timeout(120)
async def test_a_dossier_has_what_all_hold_about_a_record_that_was_merged(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.mint(f"{ADMIN_SCOPES} dossiers:read"), connections=2) as api:
        phones = ["+919876500772", "+919876500773"]
        ids = []
        for phone in phones:
            person = {"name": "Asha Devi", "phone": phone, "unit": UNIT}
            answer = await api.send("POST", "members", "/v1/members", json=person)
            ids.append(answer.json()["id"])
        one, other = ids
        await api.send("POST", "members", f"/v1/members/{one}/merge", json={"other": other})
        path = f"/v1/members/{other}/dossier"

        async def merged_everywhere() -> bool:
            found = await api.get("members", path)
            [merged] = found["merged"]
            assert [each["profile"]["id"] for each in (found, merged)] == ids
            assert [each["profile"]["phone"] for each in (found, merged)] == phones
            return bool((merged["analytics"]["member"] or {}).get("merged"))

        await until(merged_everywhere)
        page = await api.send("GET", "members", path, headers={"accept": "text/html"})
        assert all(text in page.text for text in (*ids, *phones))
