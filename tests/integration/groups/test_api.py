from __future__ import annotations

from typing import Any

import pytest

from services.shared.contracts.groups import TOPIC
from tests.fixtures.apps import Running
from tests.integration.groups.test_placement import joins, placed, seats, tree

HEADER = "code,level,name_en,name_hi,women_target\n"
TREE = (
    HEADER + "BR-SARAN,district,Saran,सारण,0.4\nBR,state,Bihar,बिहार,\nBR-SARAN-MANJHI,block,Manjhi,मांझी,\n"
)


async def load(groups: Running, text: str | bytes, **options):
    body = text.encode() if isinstance(text, str) else text
    headers = {"content-type": "text/csv", **options.pop("headers", {})}
    return await groups.http.post("/v1/units/imports", content=body, headers=headers, **options)


async def one_group(groups: Running) -> Any:
    await tree(groups, "BR-SARAN")
    await groups.publish(*joins(3))
    await placed(groups, 3)
    (group,) = (await groups.http.get("/v1/groups?unit=BR")).json()["items"]
    return group


async def test_a_tree_is_loaded_whole_in_any_order_and_again_without_effect(groups: Running) -> None:
    dry = await load(groups, TREE, params={"dry_run": True})
    assert dry.json()["created"] == 3
    assert (await groups.http.get("/v1/units/BR")).status_code == 404

    assert (await load(groups, TREE)).json()["created"] == 3
    assert (await load(groups, TREE)).json() == {
        "dry_run": False,
        "created": 0,
        "updated": 0,
        "unchanged": 3,
        "changed_codes": [],
    }
    unit = (await groups.http.get("/v1/units/BR-SARAN")).json()
    assert unit["name"] == {"en": "Saran", "hi": "सारण"}
    assert unit["parent"] == "BR"
    children = (await groups.http.get("/v1/units/BR-SARAN/children")).json()
    assert [c["code"] for c in children["items"]] == ["BR-SARAN-MANJHI"]
    assert len(await groups.published(TOPIC, 4, seconds=2)) == 3


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (HEADER + "BR,state,Bihar,बिहार,\nBR-SARAN,block,Saran,सारण,\n", "/rows/3"),
        (HEADER + "BR,state,Bihar,बिहार,\nbr-saran,district,Saran,सारण,\n", "/rows/3/code"),
        (HEADER + "BR,state,Bihar,बिहार,\nBR,state,Bihar,बिहार,\n", "/rows/2/code"),
        (HEADER + "BR,state,Bihar,बिहार,1.5\n", "/rows/2/women_target"),
        (HEADER + "BR,state,Bihar,\u200b,\n", "/rows/2/name/hi"),
        (HEADER + "BR-X-Y,block,Y,य,\n", "/rows/2/code"),
        (HEADER + "BR,state,Bihar\n", "/rows/2"),
        (HEADER, "/rows"),
        ("", "/rows/1"),
        ("code;level\n", "/rows/1"),
        (HEADER + 'BR,state,"Bihar,बिहार,\n', "/rows/2"),
    ],
)
async def test_a_tree_with_an_error_is_refused_whole(groups: Running, text: str, pointer: str) -> None:
    answer = await load(groups, text)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointer in [e["pointer"] for e in answer.json()["errors"]]
    assert await groups.runtime.database["units"].count_documents({}) == 0


async def test_a_tree_that_is_no_text_is_refused(groups: Running) -> None:
    assert (await load(groups, b"\xff\xfe\x00")).status_code == 400
    assert (await load(groups, TREE, headers={"content-type": "application/json"})).status_code == 415


async def test_units_outside_the_callers_subtree_are_not_loaded_or_shown(groups: Running) -> None:
    headers = groups.auth("groups:write groups:read", "BR-SARAN")
    refused = await load(groups, TREE, headers=headers)
    assert refused.status_code == 422
    await load(groups, TREE)
    assert (await groups.http.get("/v1/units/BR-SARAN-MANJHI", headers=headers)).status_code == 200
    assert (await groups.http.get("/v1/units/BR", headers=headers)).status_code == 404
    assert (await groups.http.get("/v1/groups?unit=BR", headers=headers)).status_code == 404


async def test_a_unit_needs_its_parent_and_the_level_of_its_code(groups: Running) -> None:
    body = {"level": "district", "name": {"en": "Saran", "hi": "सारण"}}
    assert (await groups.http.put("/v1/units/BR-SARAN", json=body)).status_code == 409
    wrong = await groups.http.put("/v1/units/BR", json=body)
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"] == "/level"


async def test_an_invite_link_is_set_once_per_version(groups: Running) -> None:
    group = await one_group(groups)
    path = f"/v1/groups/{group['id']}"
    link = {"invite_link": "https://chat.whatsapp.com/AbCdEf"}
    assert (await groups.http.patch(path, json=link)).status_code == 428
    etag = (await groups.http.get(path)).headers["etag"]
    changed = await groups.http.patch(path, json=link, headers={"if-match": etag})
    assert changed.status_code == 200
    assert changed.json()["invite_link"] == link["invite_link"]
    assert changed.headers["etag"] != etag
    assert (await groups.http.patch(path, json=link, headers={"if-match": etag})).status_code == 412
    same = await groups.http.patch(path, json=link, headers={"if-match": changed.headers["etag"]})
    assert same.headers["etag"] == changed.headers["etag"], "nothing changed, so there is no new version"

    events = [e for e in await groups.published(TOPIC, 7, seconds=3) if e.subject == group["id"]]
    assert [(e.type, e.sequence) for e in events] == [("group.created", 1), ("group.invite_changed", 2)]
    assert "whatsapp" not in str(events), "the link admits its holder: it is not in the log"


@pytest.mark.parametrize(
    "change",
    [
        {"invite_link": "http://chat.whatsapp.com/x"},
        {"invite_link": "javascript:alert(1)"},
        {"invite_link": "https://[::1"},
        {"capacity": 0},
        {"capacity": 2},
        {"capacity": None},
        {"members": 3},
        {"name": {"en": "\u200b"}},
    ],
)
async def test_a_bad_change_of_a_group_is_refused(groups: Running, change: dict[str, Any]) -> None:
    group = await one_group(groups)
    headers = {"if-match": f'"{group["version"]}"'}
    answer = await groups.http.patch(f"/v1/groups/{group['id']}", json=change, headers=headers)
    assert answer.status_code == 422, answer.text
    assert (await groups.http.get(f"/v1/groups/{group['id']}")).json() == group


async def test_capacity_fills_and_reopens_a_group(groups: Running) -> None:
    group = await one_group(groups)
    path = f"/v1/groups/{group['id']}"
    full = await groups.http.patch(path, json={"capacity": 3}, headers={"if-match": '"1"'})
    assert full.json()["state"] == "full"
    assert full.json()["version"] == 3, "group.updated and group.filled"
    await groups.publish(*joins(1))
    await placed(groups, 4)
    assert await seats(groups) == [(1, 3, "full"), (2, 1, "open")]
    reopened = await groups.http.patch(path, json={"capacity": 9}, headers={"if-match": '"3"'})
    assert reopened.json()["state"] == "open"


async def test_groups_are_resolved_in_batch_within_the_callers_units(groups: Running) -> None:
    group = await one_group(groups)
    ids = [group["id"], "no-such-group"]
    answer = (await groups.http.post("/v1/groups/resolve", json={"ids": ids})).json()
    assert [item["id"] for item in answer["items"]] == [group["id"]]
    assert answer["missing"] == ["no-such-group"]
    outside = await groups.http.post(
        "/v1/groups/resolve", json={"ids": ids}, headers=groups.auth("groups:read", "BR-SIWAN")
    )
    assert outside.json() == {"items": [], "missing": ids}


async def test_members_of_a_group_are_listed_in_pages(groups: Running) -> None:
    group = await one_group(groups)
    seen, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await groups.http.get(f"/v1/groups/{group['id']}/members", params=params)).json()
        seen += [item["member_id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 3
    foreign = await groups.http.get(f"/v1/groups/{group['id']}/members", params={"cursor": "bm90IG91cnM"})
    assert foreign.status_code == 400
