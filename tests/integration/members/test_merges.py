"""Merging two records of one person, and undoing it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.members import MemberMerged, MemberUnmerged
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service

BLOCK = UNIT.rpartition("-")[0]
ELSEWHERE = "BR-GAYA"
MERGER = "members:write members:read contacts:read"


async def merge(
    service: Service, survivor: str, other: str, caller: str = "*", query: str = "", **body: object
) -> httpx2.Response:
    headers = service.app.auth(MERGER, caller, sub="chief")
    path = f"/v1/members/{survivor}/merge{query}"
    return await service.http.post(path, json={"other": other, **body}, headers=headers)


async def undo(service: Service, merge_id: str, caller: str = "*") -> httpx2.Response:
    headers = service.app.auth("members:write members:read", caller, sub="chief")
    return await service.http.post(f"/v1/merges/{merge_id}/undo", headers=headers)


async def get(service: Service, member_id: str) -> Any:
    return (await service.http.get(f"/v1/members/{member_id}")).json()


def agreed(*channels: str, purpose: str = "broadcast") -> list[dict[str, str]]:
    return [{"purpose": purpose, "channel": c, "notice": "n1", "language": "hi"} for c in channels]


async def withdraw(service: Service, member_id: str, channel: str, purpose: str = "broadcast") -> None:
    answer = await service.http.delete(f"/v1/members/{member_id}/consents/{purpose}/{channel}")
    assert answer.status_code == 204, answer.text


def consents(member: Any) -> dict[str, str]:
    return {consent["channel"]: consent["state"] for consent in member["consents"]}


def reason(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition("/")[2].rpartition(":")[2]


async def everything(service: Service) -> dict[str, list[Any]]:
    """All that undoing a merge changes."""
    names = ("members", "merges", "merge_traces", "role_terms", "role_history", "consent_ledger")
    return {name: await service.db[name].find({}).sort("_id", 1).to_list(None) for name in names}


async def of(service: Service, member_id: str, count: int) -> list[Envelope[Event]]:
    return [event for event in await service.events(count) if event.subject == member_id]


async def test_two_records_become_one_member(service: Service) -> None:
    ours = await service.register(name="Asha Devi", consents=agreed("sms"), gender="female")
    theirs = await service.register(
        name="आशा देवी",
        consents=agreed("sms", "whatsapp"),
        birth_year=1988,
        email="asha@example.org",
        platforms=[{"platform": "facebook", "handle": "asha.d"}],
        unit=BLOCK,
    )
    await service.http.put(f"/v1/members/{theirs['id']}/roles/youth?unit={UNIT}")
    await withdraw(service, theirs["id"], "sms")

    shown = (
        await merge(service, ours["id"], theirs["id"], query="?dry_run=true", fields={"unit": "other"})
    ).json()
    assert shown["fields"]["unit"] == {"survivor": UNIT, "other": BLOCK, "survives": BLOCK}
    assert shown["fields"]["email"] == {
        "survivor": None,
        "other": "asha@example.org",
        "survives": "asha@example.org",
    }
    assert {c["channel"]: c["state"] for c in shown["consents"]} == {"sms": "withdrawn", "whatsapp": "given"}
    assert shown["roles"] == [{"role": "youth", "unit": UNIT}]
    assert (await get(service, ours["id"]))["version"] == 1, "a dry run writes nothing"

    answer = await merge(service, ours["id"], theirs["id"], fields={"unit": "other", "phone": "other"})
    assert answer.status_code == 200, answer.text
    one, gone = await get(service, ours["id"]), await get(service, theirs["id"])
    assert answer.headers["etag"] == f'"{one["version"]}"'
    assert (one["name"], one["phone"], one["unit"]) == ("Asha Devi", theirs["phone"], BLOCK)
    assert (one["email"], one["birth_year"], one["gender"]) == ("asha@example.org", 1988, "female")
    assert one["platforms"] == [{"platform": "facebook", "handle": "asha.d"}]
    assert consents(one) == {"sms": "withdrawn", "whatsapp": "given"}
    assert (gone["status"], gone["merged_into"], gone["roles"]) == ("merged", ours["id"], [])
    assert one["roles"] == [{"role": "youth", "unit": UNIT}]
    again = await merge(service, ours["id"], theirs["id"])
    assert (again.status_code, again.json()) == (200, answer.json()), "the same merge again changes nothing"
    assert (await get(service, ours["id"]))["version"] == one["version"]

    events = await service.events(2 + 2 + 1 + 5)
    [(merged, data)] = [(event, event.data) for event in events if isinstance(event.data, MemberMerged)]
    assert (merged.subject, merged.sequence, data.into) == (theirs["id"], 4, ours["id"])
    told = [event for event in events if event.subject == ours["id"]]
    assert [event.sequence for event in told] == [1, 2, 3, 4, 5, 6]
    assert [event.type.partition(".")[2] for event in told[1:]] == [
        "updated",
        "moved",
        "consent_changed",
        "consent_changed",
        "roles_changed",
    ]
    ledger = (await service.http.get(f"/v1/members/{ours['id']}/consents")).json()["items"]
    assert [(e["channel"], e["state"], e["source"], e["evidence"]) for e in ledger] == [
        ("sms", "given", "registration", None),
        ("whatsapp", "given", "merge", f"member:{theirs['id']}"),
        ("sms", "withdrawn", "merge", f"member:{theirs['id']}"),
    ]
    reads = [row async for row in service.db["contact_reads"].find({"via": "merge"})]
    assert [set(row["ids"]) for row in reads] == [{ours["id"], theirs["id"]}]
    everything = str([event.data for event in events])
    assert not any(secret in everything for secret in ("Asha", theirs["phone"], "example.org"))


async def test_an_undone_merge_restores_both_but_for_what_was_said_since(service: Service) -> None:
    ours = await service.register(consents=agreed("sms"))
    theirs = await service.register(
        name="Asha D", consents=agreed("sms", "whatsapp", "email"), email="a@example.org", birth_year=1990
    )
    await service.http.put(f"/v1/members/{theirs['id']}/roles/youth?unit={UNIT}")
    merged = (
        await merge(service, ours["id"], theirs["id"], fields={"name": "other", "phone": "other"})
    ).json()
    one = await get(service, ours["id"])
    patched = await service.http.patch(
        f"/v1/members/{ours['id']}", json={"birth_year": 1991}, headers={"If-Match": f'"{one["version"]}"'}
    )
    assert patched.status_code == 200, patched.text
    await withdraw(service, ours["id"], "whatsapp")
    await withdraw(service, theirs["id"], "sms")  # said to the record that is merged, meant by the person
    assert consents(await get(service, ours["id"])) == {
        "sms": "withdrawn",
        "whatsapp": "withdrawn",
        "email": "given",
    }
    undone = await undo(service, merged["id"])
    assert (undone.status_code, undone.json()["undone_by"]) == (200, "chief"), undone.text
    one, other = await get(service, ours["id"]), await get(service, theirs["id"])
    assert (one["name"], one["phone"], one["email"]) == ("Asha Devi", ours["phone"], None)
    assert one["birth_year"] == 1991, "a change made since stays"
    assert (other["status"], other["merged_into"], other["phone"]) == ("active", None, theirs["phone"])
    assert consents(one) == {"sms": "withdrawn", "whatsapp": "withdrawn", "email": "withdrawn"}
    assert consents(other) == {"sms": "withdrawn", "whatsapp": "withdrawn", "email": "given"}
    assert (one["roles"], other["roles"]) == ([], [{"role": "youth", "unit": UNIT}])
    assert (await undo(service, merged["id"])).json() == undone.json(), "undoing again changes nothing"
    assert (await get(service, theirs["id"]))["version"] == other["version"]
    assert await service.db["merge_traces"].count_documents({}) == 0

    outbox = await service.events(one["version"] + other["version"])
    [told] = [event.data for event in outbox if isinstance(event.data, MemberUnmerged)]
    assert (told.member_id, told.status, told.announced) == (theirs["id"], "active", False)
    for member in (one, other):
        told_of = [event.sequence for event in outbox if event.subject == member["id"]]
        assert told_of == list(range(1, member["version"] + 1))


async def test_merges_that_meet_settle_one_after_the_other(service: Service) -> None:
    one, *others = [
        (await service.register(consents=agreed(channel)))["id"]
        for channel in ("sms", "whatsapp", "email", "sms")
    ]
    await withdraw(service, others[2], "sms")
    answers = await asyncio.gather(*(merge(service, one, other) for other in others))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    survivor = await get(service, one)
    assert consents(survivor) == {"sms": "withdrawn", "whatsapp": "given", "email": "given"}
    assert [(await get(service, other))["merged_into"] for other in others] == [one] * 3

    left, right = [(await service.register())["id"] for _ in range(2)]
    crossing = await asyncio.gather(merge(service, left, right), merge(service, right, left))
    [refused] = [answer for answer in crossing if answer.status_code != 200]
    assert reason(refused) == (409, "member-is-merged")
    assert {(await get(service, each))["status"] for each in (left, right)} == {"active", "merged"}

    a, b, c = [(await service.register(consents=agreed("sms")))["id"] for _ in range(3)]
    await asyncio.gather(merge(service, a, b), merge(service, b, c))
    chain = {each: (await get(service, each))["merged_into"] for each in (a, b, c)}
    assert chain[a] is None
    assert chain[b] == a
    assert chain[c] in (None, b), "either C came first and follows B, or B was merged already"
    if chain[c] == b:
        await withdraw(service, c, "sms")
        assert consents(await get(service, a)) == {"sms": "withdrawn"}, "a withdrawal follows to the root"


async def test_what_cannot_be_merged_is_refused_with_its_reason(service: Service) -> None:
    one, two, away = [(await service.register())["id"] for _ in range(3)]
    await service.http.post(f"/v1/members/{away}/move", json={"unit": ELSEWHERE})
    assert reason(await merge(service, one, one))[0] == 422
    assert reason(await merge(service, one, one.upper()))[0] == 422
    assert (await merge(service, one, new_id())).status_code == 404
    assert (await merge(service, one, away, caller=BLOCK)).status_code == 404
    assert (await merge(service, away, one, caller=BLOCK)).status_code == 404
    assert (await merge(service, one, away, caller=BLOCK, query="?dry_run=true")).status_code == 404
    for body in ({"fields": {"status": "other"}}, {"fields": {"name": "both"}}, {"fields": {"name": None}}):
        assert (await merge(service, one, two, **body)).status_code == 422
    for scopes in ("members:write members:read", "contacts:read members:read", "members:write contacts:read"):
        answer = await service.http.post(
            f"/v1/members/{one}/merge", json={"other": two}, headers=service.app.auth(scopes, "*")
        )
        assert answer.status_code == 403
    assert (await get(service, one))["version"] == 1

    stale = await service.http.post(
        f"/v1/members/{one}/merge", json={"other": two}, headers={"If-Match": '"7"'}
    )
    assert stale.status_code == 412
    merged = (await merge(service, one, two)).json()
    for change in ({"name": "X"}, {"phone": "+919800000001"}):
        answer = await service.http.patch(f"/v1/members/{two}", json=change, headers={"If-Match": '"2"'})
        assert reason(answer) == (409, "member-is-merged")
    assert reason(await service.http.delete(f"/v1/members/{two}")) == (409, "member-is-merged")
    assert (
        reason(await service.http.post(f"/v1/members/{two}/move", json={"unit": BLOCK}))[1]
        == "member-is-merged"
    )
    assert (
        reason(await service.http.put(f"/v1/members/{two}/roles/youth?unit={UNIT}"))[1] == "member-is-merged"
    )
    three = (await service.register())["id"]
    assert reason(await merge(service, three, two)) == (409, "member-is-merged")
    assert reason(await merge(service, two, three)) == (409, "member-is-merged")
    await service.http.delete(f"/v1/members/{three}")
    assert reason(await merge(service, three, one)) == (409, "member-has-left")
    assert (await undo(service, new_id())).status_code == 404
    assert (await undo(service, merged["id"], caller=ELSEWHERE)).status_code == 404


async def test_a_merge_is_undone_within_30_days_and_before_the_merges_on_top(service: Service) -> None:
    root, one, two = [(await service.register())["id"] for _ in range(3)]
    first = (await merge(service, one, two)).json()
    second = (await merge(service, root, one)).json()
    assert reason(await undo(service, first["id"])) == (409, "merged-on")
    assert (await undo(service, second["id"])).status_code == 200
    await service.db["merges"].update_one(
        {"_id": first["id"]},
        [{"$set": {"at": {"$subtract": ["$at", timedelta(days=31) // timedelta(milliseconds=1)]}}}],
    )
    assert reason(await undo(service, first["id"])) == (409, "merge-expired")
    assert (await get(service, two))["status"] == "merged"


@pytest.mark.parametrize("fields", [{}, {"phone": "other"}])
async def test_a_phone_comes_back_only_while_it_is_free(service: Service, fields: dict[str, str]) -> None:
    """Either the other's phone was freed by the merge, or the survivor's own was given up for it."""
    ours, theirs = [await service.register(consents=agreed("sms")) for _ in range(2)]
    await service.http.put(f"/v1/members/{theirs['id']}/roles/youth?unit={UNIT}")
    merged = (await merge(service, ours["id"], theirs["id"], fields=fields)).json()
    freed = ours["phone"] if fields else theirs["phone"]
    stranger = await service.register(phone=freed)
    before = await everything(service)
    refused = await undo(service, merged["id"])
    assert reason(refused) == (409, "phone-already-registered")
    assert refused.json()["member_id"] == stranger["id"]
    assert await everything(service) == before, "nothing was written"
    await service.http.delete(f"/v1/members/{stranger['id']}")
    assert (await undo(service, merged["id"])).status_code == 200
    assert [(await get(service, each["id"]))["phone"] for each in (ours, theirs)] == [
        ours["phone"],
        theirs["phone"],
    ]


OWN = ("name", "phone", "email", "unit", "gender", "birth_year", "platforms", "reached_by", "roles")


async def said(service: Service, member_id: str) -> list[tuple[str, str, str]]:
    items = (await service.http.get(f"/v1/members/{member_id}/consents")).json()["items"]
    return [(each["channel"], each["state"], each["source"]) for each in items]


async def three(service: Service) -> list[Any]:
    """Three records, the first without consents, each with all of its own."""
    found = []
    for n, name in enumerate(("Asha Devi", "Babita Devi", "Chanda Devi")):
        member = await service.register(
            name=name,
            email=f"{n}@example.org",
            birth_year=1970 + n,
            gender=("female", "other", "undisclosed")[n],
            unit=(UNIT, BLOCK, ELSEWHERE)[n],
            platforms=[{"platform": ("x", "facebook", "instagram")[n], "handle": name[:5].lower()}],
            consents=agreed("sms", purpose="welcome") if n else [],
        )
        if n:
            await service.http.put(f"/v1/members/{member['id']}/roles/youth?unit={UNIT}")
        found.append(await get(service, member["id"]))
    return found


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    "chosen", [(), ("phone",), ("name", "phone", "email", "unit", "gender", "birth_year", "handles")]
)
async def test_merges_are_undone_in_any_order(
    service: Service, chosen: tuple[str, ...], order: tuple[int, int]
) -> None:
    before = await three(service)
    one, *others = [member["id"] for member in before]
    fields = dict.fromkeys(chosen, "other")
    merges = [(await merge(service, one, other, fields=fields)).json()["id"] for other in others]
    first, second = order
    assert (await undo(service, merges[first])).status_code == 200
    shown = await get(service, one)
    stays = before[1 + second]
    expected = before[0] | {name: stays[name] for name in chosen if name in OWN}
    for name in ("name", "phone", "email", "unit", "birth_year"):
        assert shown[name] == expected[name], "what the other merge gave"
    assert {each["platform"] for each in shown["platforms"]} == {
        each["platform"] for member in (before[0], stays) for each in member["platforms"]
    }
    assert shown["roles"] == [{"role": "youth", "unit": UNIT}], "the one who stays merged has it too"
    assert consents(shown) == {"sms": "given"}, "they gave it too"
    undone = await undo(service, merges[second])
    assert undone.status_code == 200, undone.text
    for member in before:
        shown = await get(service, member["id"])
        assert {name: shown[name] for name in OWN} == {name: member[name] for name in OWN}
        assert shown["status"] == "active"
    for other in others:
        assert await said(service, other) == [("sms", "given", "registration")], "nobody withdrew"
    ledger = (await service.http.get(f"/v1/members/{one}/consents")).json()["items"]
    assert (ledger[-1]["state"], ledger[-1]["source"]) == ("withdrawn", "merge_undone")
    proofs = [each["evidence"] for each in ledger if each["state"] == "given"]
    assert proofs == [f"member:{each}" for each in (others if order == (0, 1) else others[:1])]
    assert await service.db["merge_traces"].count_documents({}) == 0
    again = await merge(service, one, others[0])
    assert consents(await get(service, one)) == {"sms": "given"}, "what an undo ended was not withdrawn"
    assert again.status_code == 200


async def test_between_undos_stays_what_was_changed_by_hand(service: Service) -> None:
    before = await three(service)
    one, two, three_ = [member["id"] for member in before]
    chosen = dict.fromkeys(("name", "phone", "email"), "other")
    first = (await merge(service, one, two, fields=chosen)).json()["id"]

    async def patch(**changes: object) -> None:
        tag = f'"{(await get(service, one))["version"]}"'
        answer = await service.http.patch(f"/v1/members/{one}", json=changes, headers={"If-Match": tag})
        assert answer.status_code == 200, answer.text

    await patch(email="new@example.org")
    second = (await merge(service, one, three_, fields={"name": "other"})).json()["id"]
    await patch(phone=before[2]["phone"])  # the number of the one merged last is free, and meant as theirs
    for each in (first, second):
        assert (await undo(service, each)).status_code == 200
    shown = [await get(service, each) for each in (one, two, three_)]
    assert [each["phone"] for each in shown] == [each["phone"] for each in before]
    assert [each["name"] for each in shown] == [each["name"] for each in before]
    assert [each["email"] for each in shown] == ["new@example.org", "1@example.org", "2@example.org"]


async def test_what_is_withdrawn_while_records_are_one_is_withdrawn_in_each_ledger(service: Service) -> None:
    one, two, other = [(await service.register(consents=agreed("sms")))["id"] for _ in range(3)]
    alone = (await service.register(consents=agreed("sms")))["id"]
    await withdraw(service, alone, "sms")
    merges = [(await merge(service, one, each)).json()["id"] for each in (two, alone)]
    assert consents(await get(service, one)) == {"sms": "withdrawn"}
    await undo(service, merges[0])
    assert consents(await get(service, two)) == {"sms": "given"}, "another's no, from before they were one"
    for each in (two, other):
        await merge(service, one, each)
    await withdraw(service, other, "sms")  # changes nothing of the survivor, who has said so already
    for each in (two, other):
        assert await said(service, each) == [
            ("sms", "given", "registration"),
            ("sms", "withdrawn", "staff"),
        ]


@pytest.mark.parametrize("refusing_survives", [True, False])
async def test_a_no_before_any_yes_wins_over_the_yes_of_the_other_record(
    service: Service, refusing_survives: bool
) -> None:
    refusing = (await service.register())["id"]
    agreeing = (await service.register(consents=agreed("sms")))["id"]
    await withdraw(service, refusing, "sms")
    pair = (refusing, agreeing) if refusing_survives else (agreeing, refusing)
    done = (await merge(service, *pair)).json()["id"]
    assert consents(await get(service, pair[0])) == {"sms": "withdrawn"}
    await service.http.put("/v1/notices/2/hi", json={"text": "x"}, headers=service.app.auth("notices:write"))
    given = await service.http.put(
        f"/v1/members/{pair[0]}/consents/broadcast/sms",
        json={"notice": "2", "language": "hi", "evidence": "form 7"},
        headers=service.app.auth("members:read consents:write"),
    )
    assert given.status_code == 200
    assert consents(await get(service, pair[0])) == {"sms": "given"}, "their own, later"
    assert (await undo(service, done)).status_code == 200
    assert consents(await get(service, pair[0])) == {"sms": "given"}
    assert consents(await get(service, pair[1])) == {"sms": "given" if refusing_survives else "withdrawn"}


async def test_of_who_left_a_merge_keeps_the_withdrawals_and_undoing_it_leaves_them_gone(
    service: Service,
) -> None:
    before = await service.register(consents=agreed("sms", "whatsapp"))
    await withdraw(service, before["id"], "sms")
    await service.http.delete(f"/v1/members/{before['id']}")
    now = await service.register(phone=before["phone"], consents=agreed("sms"))
    merged = await merge(service, now["id"], before["id"])
    assert merged.status_code == 200, merged.text
    assert consents(await get(service, now["id"])) == {"sms": "withdrawn"}
    assert (await undo(service, merged.json()["id"])).status_code == 200
    assert (await get(service, before["id"]))["status"] == "left"


async def test_a_change_of_number_keeps_the_person(service: Service) -> None:
    member = await service.register(consents=agreed("sms"))
    await service.http.put(f"/v1/members/{member['id']}/roles/youth?unit={UNIT}")
    answer = await service.http.patch(
        f"/v1/members/{member['id']}", json={"phone": "+919800000042"}, headers={"If-Match": '"2"'}
    )
    changed = answer.json()
    kept = ("id", "unit", "consents", "joined_at", "status")
    assert [changed[name] for name in kept] == [member[name] for name in kept]
    assert (changed["phone"], changed["version"]) == ("+919800000042", 3)
    ledger = (await service.http.get(f"/v1/members/{member['id']}/consents")).json()
    assert [(entry["channel"], entry["state"]) for entry in ledger["items"]] == [("sms", "given")]
    roles = (await service.http.get(f"/v1/members/{member['id']}/roles")).json()
    assert [item["role"] for item in roles["items"]] == ["youth"]
    assert [event.type for event in await service.events(3)] == [
        "member.joined",
        "member.roles_changed",
        "member.updated",
    ], "nobody leaves and nobody joins, so the seat stays"


async def test_whoever_was_invited_by_the_other_is_shown_as_invited_by_the_survivor(service: Service) -> None:
    root, one, two = [(await service.register())["id"] for _ in range(3)]
    invited = (await service.register(inviter_id=two))["id"]
    await merge(service, one, two)
    assert (await get(service, invited))["inviter_id"] == one
    second = (await merge(service, root, one)).json()
    assert (await get(service, invited))["inviter_id"] == root
    listed = (await service.http.get("/v1/members")).json()["items"]
    assert {each["inviter_id"] for each in listed if each["id"] == invited} == {root}
    await undo(service, second["id"])
    assert (await get(service, invited))["inviter_id"] == one
    assert (await service.stored(invited))["inviter_id"] == two
    assert (await get(service, two))["merged_into"] == one
