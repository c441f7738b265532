"""The tree of units over HTTP, one at a time and as CSV."""

from __future__ import annotations

import pytest

from services.shared.contracts.groups import TOPIC
from tests.fixtures.apps import Running

HEADER = "code,level,name_en,name_hi,women_target\n"
TREE = (
    HEADER + "BR-SARAN,district,Saran,सारण,0.4\nBR,state,Bihar,बिहार,\nBR-SARAN-MANJHI,block,Manjhi,मांझी,\n"
)


async def load(groups: Running, text: str | bytes, **options):
    body = text.encode() if isinstance(text, str) else text
    headers = {"content-type": "text/csv", **options.pop("headers", {})}
    return await groups.http.post("/v1/units/imports", content=body, headers=headers, **options)


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
