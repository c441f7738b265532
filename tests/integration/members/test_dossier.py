"""The part of a dossier that members itself holds; the journey of dossiers has the other services too."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from services.members.dossier.holders import NAMES, Holders
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service
from tests.integration.members.test_merges import agreed, merge, undo

ELSEWHERE = "BR-GAYA"
GRIEVANCE = "You wrote to my old number"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The members of whom the other services were asked; each holds their id."""
    ids: list[str] = []

    async def held(_: Holders, member_id: str) -> dict[str, Any]:
        ids.append(member_id)
        messages = {"messages": [], "total": 0}
        return {name: {"of": member_id, "placement": None, "member": None, **messages} for name in NAMES}

    monkeypatch.setattr(Holders, "held", held)
    return ids


async def gather(service: Service, member_id: str, unit: str = "*", accept: str = "*/*") -> httpx2.Response:
    headers = service.app.auth("dossiers:read contacts:read", unit, sub="clerk") | {"accept": accept}
    return await service.http.get(f"/v1/members/{member_id}/dossier", headers=headers)


async def act(service: Service, method: str, path: str, scope: str, **sent: Any) -> Any:
    headers = service.app.auth(scope, sub="clerk") | sent.pop("headers", {})
    answer = await service.http.request(method, path, headers=headers, **sent)
    assert answer.is_success, answer.text
    return answer.json()


async def a_person_of_three_records(service: Service) -> list[str]:
    """The one who stands for all, one merged into that, one merged into the second, in other units."""
    one, two, three = [
        await service.register(name=f"Asha {name}", unit=unit, consents=agreed("sms"))
        for name, unit in (("One", UNIT), ("Two", ELSEWHERE), ("Three", "BR-PATNA"))
    ]
    await service.http.put(f"/v1/members/{two['id']}/roles/youth?unit={UNIT}", json={})
    for survivor, other in ((two, three), (one, two)):
        assert (await merge(service, survivor["id"], other["id"])).status_code == 200
    return [each["id"] for each in (one, two, three)]


@pytest.mark.parametrize("of", [0, 1, 2])
async def test_a_dossier_is_of_the_person_whichever_record_is_asked_for(
    service: Service, asked: list[str], of: int
) -> None:
    ids = await a_person_of_three_records(service)
    stranger = (await service.register(name="Ravi Kumar"))["id"]
    parted = (await merge(service, ids[0], stranger)).json()["id"]
    await undo(service, parted)
    written = "grievances:write grievances:read"
    for member_id in (ids[1], stranger):
        body = {"member_id": member_id, "kind": "messages", "text": GRIEVANCE}
        filed = await act(service, "POST", "/v1/grievances", written, json=body)
        answered = {"answer": "We will not do it again"}
        match = {"if-match": '"1"'}
        await act(service, "PATCH", f"/v1/grievances/{filed['id']}", written, json=answered, headers=match)

    answer = await gather(service, ids[of])
    assert answer.status_code == 200, answer.text
    found = answer.json()
    records = [found, *found["merged"]]
    assert [each["profile"]["id"] for each in records] == ids
    assert [each["profile"]["name"] for each in records] == ["Asha One", "Asha Two", "Asha Three"]
    assert all(each["profile"]["phone"] for each in records)
    assert [each["notifications"]["of"] for each in records] == ids == asked
    assert [{entry["channel"] for entry in each["consents"]} for each in records] == [{"sms"}] * 3
    assert [[change["change"] for change in each["role_changes"]] for each in records] == [
        ["given"],
        ["given", "taken"],
        [],
    ]
    assert [[term["role"] for term in each["roles"]] for each in records] == [["youth"], [], []]
    one, two, three = ids
    merges = [(each["other"], each["survivor"], each["by"]) for each in found["merges"]]
    assert merges == [(three, two, "chief"), (two, one, "chief"), (stranger, one, "chief")]
    assert [bool(each["undone_at"]) for each in found["merges"]] == [False, False, True]
    [grievance] = found["grievances"]
    assert (grievance["member_id"], grievance["text"]) == (two, GRIEVANCE)
    assert (grievance["state"], grievance["answer"]) == ("answered", "We will not do it again")
    [row] = [row async for row in service.db["contact_reads"].find({"via": "dossier"})]
    assert row["ids"] == ids
    assert ("clerk", "dossier") in {(each["subject"], each["via"]) for each in found["reads"]}

    page = (await gather(service, ids[of], accept="text/html")).text
    for text in (*ids, *(each["profile"]["phone"] for each in records), GRIEVANCE, "Asha Three", parted):
        assert (text in page) is (text != parted), text


async def test_an_import_that_named_the_person_is_in_the_dossier_as_long_as_it_remembers(
    service: Service,
) -> None:
    """By the phone, also of a record that was merged; by the id; and not one that named somebody else."""
    ours, theirs = [await service.register() for _ in range(2)]
    await merge(service, ours["id"], theirs["id"])
    named = [
        f"name,phone,unit\nAsha Devi,{theirs['phone']},{UNIT}\n",
        f"id,name\n{ours['id']},Asha Kumari Devi\n",
        f"name,phone,unit\nRavi,+919812345678,{UNIT}\n",
    ]
    ids = []
    for content in named:
        headers = service.app.auth("members:* contacts:read", sub="clerk") | {"content-type": "text/csv"}
        sent = await service.http.post("/v1/imports", content=content.encode(), headers=headers)
        assert sent.is_success, sent.text
        ids.append(sent.json()["id"])

    async def planned() -> bool:
        return await service.db["imports"].count_documents({"planned_at": {"$exists": True}}) == len(named)

    await service.app.until(planned)
    found = (await gather(service, theirs["id"])).json()
    assert [each["id"] for each in found["imports"]] == ids[:2]
    assert {(each["by"], each["unit"]) for each in found["imports"]} == {("clerk", "*")}


async def test_who_may_not_see_the_member_that_stands_for_the_person_gets_no_dossier(
    service: Service,
) -> None:
    ids = await a_person_of_three_records(service)
    for member_id in (*ids, new_id()):
        assert (await gather(service, member_id, ELSEWHERE)).status_code == 404
    assert (await gather(service, ids[1], UNIT)).status_code == 200
    assert await service.db["contact_reads"].count_documents({"via": "dossier"}) == 1
