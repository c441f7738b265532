"""Groups over HTTP: found, read with their members, changed by hand."""

from __future__ import annotations

from typing import Any

from services.shared.contracts.groups import TOPIC
from tests.fixtures.apps import Running
from tests.integration.groups.test_placement import UNIT, joins, placed, seats, tree


async def one_group(groups: Running) -> Any:
    await tree(groups, UNIT)
    await groups.publish(*joins(3))
    await placed(groups, 3)
    (group,) = (await groups.http.get("/v1/groups?unit=BR")).json()["items"]
    return group


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

    events = [e for e in await groups.log(TOPIC) if e.subject == group["id"]]
    assert [(e.type, e.sequence) for e in events] == [("group.created", 1), ("group.invite_changed", 2)]
    assert "whatsapp" not in str(events), "the link admits its holder: it is not in the log"


BAD_CHANGES: list[dict[str, Any]] = [
    {"invite_link": "http://chat.whatsapp.com/x"},
    {"invite_link": "javascript:alert(1)"},
    {"invite_link": "https://[::1"},
    {"capacity": 0},
    {"capacity": 2},
    {"capacity": None},
    {"capacity": True},
    {"capacity": "9"},
    {"capacity": 9.5},
    {"invite_link": "https://chat.whatsapp.com/a b"},
    {"invite_link": "https://chat.whatsapp.com/<script>"},
    {"members": 3},
    {"name": {"en": "\u200b"}},
]


async def test_a_bad_change_of_a_group_is_refused(groups: Running) -> None:
    group = await one_group(groups)
    path, headers = f"/v1/groups/{group['id']}", {"if-match": f'"{group["version"]}"'}
    for change in BAD_CHANGES:
        answer = await groups.http.patch(path, json=change, headers=headers)
        assert answer.status_code == 422, (change, answer.text)
    assert (await groups.http.get(path)).json() == group


async def test_who_may_not_read_groups_is_shown_no_link_by_changing_nothing(groups: Running) -> None:
    group = await one_group(groups)
    path = f"/v1/groups/{group['id']}"
    link = {"invite_link": "https://chat.whatsapp.com/AbCdEfGhIjK"}
    set_ = await groups.http.patch(path, json=link, headers={"if-match": f'"{group["version"]}"'})
    for body in ({}, {"name": {"en": "X"}}, {"capacity": group["capacity"]}):
        headers = groups.auth("groups:write") | {"if-match": set_.headers["etag"]}
        refused = await groups.http.patch(path, json=body, headers=headers)
        assert refused.status_code == 403
        assert "AbCdEf" not in refused.text
    assert (await groups.http.get(path)).headers["etag"] == set_.headers["etag"]


async def test_a_link_changes_nothing_else_and_is_cleaned_like_all_text(groups: Running) -> None:
    group = await one_group(groups)
    path, pasted = f"/v1/groups/{group['id'].upper()}", "\u2068 https://chat.whatsapp.com/Ab\u200bCd\ufeff\n"
    answer = await groups.http.patch(path, json={"invite_link": pasted}, headers={"if-match": '"1"'})
    changed = {"invite_link": "https://chat.whatsapp.com/AbCd", "invite_ready": True, "version": 2}
    assert answer.json() == group | changed


async def test_a_group_follows_its_units_name_until_somebody_names_it(groups: Running) -> None:
    await tree(groups, UNIT)
    await groups.publish(*joins(6))  # one more than fit into the first group
    await placed(groups, 6)

    async def names() -> list[tuple[str, str]]:
        rows = (await groups.http.get(f"/v1/groups?unit={UNIT}")).json()["items"]
        return [
            (row["name"]["en"], row["name"]["hi"]) for row in sorted(rows, key=lambda row: row["ordinal"])
        ]

    async def call(en: str) -> None:
        body = {"level": "district", "name": {"en": en, "hi": "छपरा"}}
        assert (await groups.http.put(f"/v1/units/{UNIT}", json=body)).status_code == 200

    await call("Chhapra")
    assert await names() == [("Chhapra group", "छपरा समूह"), ("Chhapra group 2", "छपरा समूह 2")]
    second = (await groups.http.get(f"/v1/groups?unit={UNIT}")).json()["items"][1]
    path = f"/v1/groups/{second['id']}"
    assert second["version"] == 2, "one more event: group.updated"
    await groups.http.patch(path, json={"name": {"en": "The mills"}}, headers={"if-match": '"2"'})
    await call("Saran")
    assert await names() == [("Saran group", "छपरा समूह"), ("The mills", "छपरा समूह 2")]
    await groups.http.patch(path, json={"name": {"en": None}}, headers={"if-match": '"3"'})
    assert (await names())[1][0] == "Saran group 2"
    await call("Saran")
    events = [e for e in await groups.log(TOPIC) if e.subject == second["id"]]
    changes = [(e.type, e.sequence) for e in events if e.type == "group.updated"]
    assert changes == [("group.updated", 2), ("group.updated", 3), ("group.updated", 4)]


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
