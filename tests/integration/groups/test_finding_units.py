"""Units found by name in both scripts, by constituency and level; the levels of the tree; data of an earlier
release."""

from __future__ import annotations

from typing import Any

from services.groups.core.store import UNITS
from services.groups.tree.store import Filters, TreeStore, query_of
from services.groups.tree.terms import Terms
from services.shared.text import searchable_words
from tests.fixtures.apps import Running
from tests.fixtures.reference import rows
from tests.integration.groups.test_redrawing import compared, csv, load, row

PLACES = {
    "BR": ("Bihar", "बिहार", "state"),
    "BR-218": ("Saran", "सारण", "district"),
    "BR-211": ("Pashchim Champaran", "पश्चिम चंपारण", "district"),
    "BR-218-1": ("Manjhi", "मांझी", "block"),
    "BR-218-2": ("Marhaura", "मढ़ौरा", "block"),
    "BR-218-1-7": ("Middle School Manjhi", "मध्य विद्यालय मांझी", "booth"),
}


async def put(groups: Running, code: str, status: int = 201, **more: Any) -> Any:
    en, hi, level = PLACES.get(code, (code, "स्थान", "booth"))
    body = {"name": {"en": en, "hi": hi}, "level": level, **more}
    answer = await groups.http.put(f"/v1/units/{code}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def found(groups: Running, **query: Any) -> list[str]:
    codes: list[str] = []
    while True:
        page = (await groups.http.get("/v1/units", params=query)).json()
        codes += [item["code"] for item in page["items"]]
        if page["next"] is None:
            return codes
        query["cursor"] = page["next"]


async def test_a_unit_is_found_however_it_is_written(groups: Running) -> None:
    for code in PLACES:
        await put(groups, code)
    for asked in ("manjhi", "Manjhi", "मांझी", "माँझी", "manj", "मां", "Maanjhee"):
        assert await found(groups, q=asked) == ["BR-218-1", "BR-218-1-7"], asked
    assert await found(groups, q="champaran paschim") == ["BR-211"]
    assert await found(groups, q="मढ़ौरा") == ["BR-218-2"]
    assert await found(groups, q="marhaura", unit="BR-211") == []
    assert await found(groups, q="school manjhi", level="booth") == ["BR-218-1-7"]
    assert await found(groups, q="manjhi saran") == []
    assert await found(groups, limit=2) == sorted(PLACES)
    for nothing in ("", " ", "--"):
        assert (await groups.http.get("/v1/units", params={"q": nothing})).status_code == 422
    stranger = groups.auth("groups:read", "BR-211")
    answer = await groups.http.get("/v1/units?q=manjhi", headers=stranger)
    assert answer.json()["items"] == []
    renamed = {"en": "Ekma", "hi": "एकमा"}
    await put(groups, "BR-218-1", 200, name=renamed, level="block")
    assert await found(groups, q="manjhi") == ["BR-218-1-7"]
    assert await found(groups, q="ekma") == ["BR-218-1"]


async def test_real_names_of_blocks_are_found_in_either_script(groups: Running) -> None:
    blocks = [block for block in rows("blocks.csv") if block["district_lgd"] == "218"]
    text = ["code,level,name_en,name_hi", "BR,state,Bihar,बिहार", "BR-218,district,Saran,सारण"]
    text += [f"BR-218-{b['block_lgd']},block,{b['name_en']},{b['name_hi']}" for b in blocks]
    headers = {"content-type": "text/csv"}
    answer = await groups.http.post("/v1/units/imports", content="\n".join(text).encode(), headers=headers)
    assert answer.status_code == 200, answer.text
    for block in blocks:
        for script in ("name_en", "name_hi"):
            assert f"BR-218-{block['block_lgd']}" in await found(groups, q=block[script]), block


async def test_an_index_finds_the_units(groups: Running) -> None:
    await load(groups, "BR", "BR-S", *[f"BR-S-{n}" for n in range(200)])
    name = {"en": "Manjhi", "hi": "मांझी"}
    await put(groups, "BR-S-7", 200, level="block", name=name, constituency={"number": 117})
    units = groups.runtime.database["units"]

    async def stages(filters: Filters, root: str | None = None) -> set[str]:
        plan = await units.find(query_of(root, filters, None)).sort("_id", 1).limit(51).explain()
        found: set[str] = set()

        def walk(stage: dict[str, Any]) -> None:
            found.add(stage["stage"])
            for below in [*stage.get("inputStages", []), *filter(None, [stage.get("inputStage")])]:
                walk(below)

        walk(plan["queryPlanner"]["winningPlan"])
        examined = plan["executionStats"]["totalDocsExamined"]
        assert examined <= 60, (filters, plan["queryPlanner"]["winningPlan"])
        return found

    assert await found(groups, q="maanjhee") == ["BR-S-7"]
    for filters in (Filters(words=searchable_words("maanjhee")), Filters(constituency=117), Filters()):
        assert "COLLSCAN" not in await stages(filters)
    assert "COLLSCAN" not in await stages(Filters(), "BR-S")


async def test_a_constituency_is_set_kept_and_removed(groups: Running) -> None:
    await put(groups, "BR")
    await put(groups, "BR-218")
    named = {"number": 118, "name": {"en": "Chapra", "hi": "छपरा"}}
    assert (await put(groups, "BR-218", 200, constituency=named))["constituency"] == named
    assert (await put(groups, "BR-218", 200, women_target=0.3))["constituency"] == named
    headers = {"content-type": "text/csv"}
    old = "code,level,name_en,name_hi\nBR-218,district,Saran new,सारण\n"
    await groups.http.post("/v1/units/imports", content=old.encode(), headers=headers)
    assert (await groups.http.get("/v1/units/BR-218")).json()["constituency"] == named
    assert await found(groups, constituency=118) == ["BR-218"]
    assert (await put(groups, "BR-218", 200, constituency=None))["constituency"] is None
    for wrong in ({"number": 0}, {"number": 10_000}, {"number": "7"}, {"number": True}, {}, 7):
        await put(groups, "BR-218", 422, constituency=wrong)


async def test_the_levels_of_a_tree_are_data(groups: Running) -> None:
    await put(groups, "BR")
    shown = await groups.http.get("/v1/units/levels")
    assert shown.json() == {"levels": ["state", "district", "block", "booth"], "version": 1}

    async def levels(*words: str, **headers: str) -> Any:
        return await groups.http.put("/v1/units/levels", json={"levels": list(words)}, headers=headers)

    five = ("state", "zone", "district", "block", "ward", "booth", "page", "lane")
    stale = await levels(*five, **{"if-match": '"7"'})
    assert stale.status_code == 412
    assert (await levels(*five, **{"if-match": '"1"'})).json() == {"levels": list(five), "version": 2}
    code = "BR-A-B-C-D-E-F-G"
    for depth in range(2, 9):
        body = {"name": {"en": "x", "hi": "क"}, "level": five[depth - 1]}
        answer = await groups.http.put(f"/v1/units/{'-'.join(code.split('-')[:depth])}", json=body)
        assert answer.status_code == 201, answer.text
    assert await found(groups, level="lane") == [code]
    refused = await levels("state", "district", "block", "booth")
    assert (refused.status_code, refused.json()["depths"]) == (409, "2 3 4 5 6 7 8")
    for wrong in ([], ["state"] * 2, [f"l{n}" for n in range(9)], ["State"], ["राज्य"]):
        assert (await levels(*wrong)).status_code == 422
    below = groups.auth("groups:*", "BR")
    answer = await groups.http.put("/v1/units/levels", json={"levels": ["state"]}, headers=below)
    assert answer.status_code in {403, 404}
    wrong_level = {"name": {"en": "x", "hi": "क"}, "level": "district"}
    assert (await groups.http.put("/v1/units/BR-X", json=wrong_level)).status_code == 422


async def test_units_of_an_earlier_release_are_found_and_redrawn(groups: Running) -> None:
    """Release 0.1.0 stores neither terms nor a tree, and writes beside this one."""
    database = groups.runtime.database
    await load(groups, "BR", "BR-S", "BR-S-M", "BR-S-M-1")
    await database["tree"].delete_many({})
    stored = [row async for row in database["units"].find()]
    old = ("_id", "level", "parent", "name", "women_target", "version")
    for each in stored:
        await database["units"].replace_one({"_id": each["_id"]}, {name: each[name] for name in old})
        assert UNITS.decode(dict(each)).is_live
    assert await found(groups, q="place") == []
    terms = Terms(TreeStore(database))
    await terms.turn()
    assert await found(groups, q="place") == [each["_id"] for each in sorted(stored, key=lambda r: r["_id"])]
    await database["units"].update_one(
        {"_id": "BR-S"}, {"$set": {"name": {"en": "Chapra", "hi": "छपरा"}, "version": 2}}
    )
    await terms.turn()
    await terms.turn()
    assert await found(groups, q="chapra") == ["BR-S"]
    text = csv(row("BR"), row("BR-S", "Chapra"), row("BR-S-M"), row("BR-S-M-2", predecessor="BR-S-M-1"))
    shown = await compared(groups, text)
    assert {(e["kind"], e["code"]) for e in shown["items"]} >= {("moved", "BR-S-M-1"), ("formed", "BR-S-M-2")}


async def test_a_token_of_a_retired_unit_is_one_of_what_stands_for_it(groups: Running) -> None:
    await load(groups, "BR", "BR-S", "BR-S-M", "BR-S-M-1")
    text = csv(
        row("BR"),
        row("BR-T", predecessor="BR-S"),
        row("BR-T-M", predecessor="BR-S-M"),
        row("BR-T-M-1", predecessor="BR-S-M-1"),
        row("BR-T-M-2", predecessor="BR-S-M-1"),
    )
    shown = await compared(groups, text)
    answer = await groups.http.post(f"/v1/units/comparisons/{shown['comparison']['id']}/apply")
    job = answer.json()["id"]

    async def done() -> bool:
        return bool((await groups.http.get(f"/v1/jobs/{job}")).json()["state"] == "succeeded")

    await groups.until(done)
    officer = groups.auth("groups:read", "BR-S-M")
    seen = await groups.http.get("/v1/units", headers=officer)
    assert [item["code"] for item in seen.json()["items"]] == ["BR-T-M", "BR-T-M-1", "BR-T-M-2"]
    lost = groups.auth("groups:read", "BR-S-M-1")
    assert (await groups.http.get("/v1/units", headers=lost)).status_code == 404
