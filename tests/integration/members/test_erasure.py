"""Erasure in the members service: out of use at once, acknowledged by three, ended by a rule, for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import httpx2
import pytest
from prometheus_client import CollectorRegistry

from infra.local.keys import Keys
from services.members.app import build
from services.members.core.contacts import Contacts
from services.members.core.erasing import Rule
from services.members.core.metrics import MembersMetrics
from services.members.core.phones import BlindIndex
from services.members.erasure.due import Retention
from services.members.erasure.store import RetentionStore
from services.members.recovery.rebuild_plan import plan
from services.members.settings import MembersSettings
from services.shared.contracts.analytics import AnalyticsErasureAcknowledged
from services.shared.contracts.base import Event
from services.shared.contracts.groups import GroupsErasureAcknowledged
from services.shared.contracts.members import MemberErased, MemberErasureRequested
from services.shared.contracts.notifications import NotificationsErasureAcknowledged
from services.shared.database import Database, Document
from services.shared.encryption import Vault
from services.shared.ids import new_id
from services.shared.loops import Turn
from services.shared.messaging import decode
from tests.fixtures.apps import make_topics, started
from tests.fixtures.rebuilding import Anew, databases, quiet, restored, taken, the_log
from tests.integration.members import importing
from tests.integration.members.conftest import TOPIC, UNIT, Service, serving

STAFF = "members:* contacts:read consents:write notices:write erasure:write removals:write ops:*"
NAME, DIGITS, EMAIL, HANDLE = "Zubaida Khatunnisa", "9876501234", "zubaida.k@example.org", "zubi_k_77"
CONSENT = {"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}
ANSWERS = (GroupsErasureAcknowledged, NotificationsErasureAcknowledged, AnalyticsErasureAcknowledged)


@pytest.fixture(autouse=True)
def _tests_take_the_turns_of_retention(monkeypatch: pytest.MonkeyPatch) -> None:
    async def rest(_: Retention, stop: asyncio.Event) -> None:
        await stop.wait()

    monkeypatch.setattr(Retention, "run", rest)


@asynccontextmanager
async def erasing(settings: MembersSettings, keys: Keys) -> AsyncIterator[Service]:
    async with serving(settings, keys) as service:
        service.http.headers["authorization"] = f"Bearer {keys.mint(STAFF, '*')}"
        yield service


async def a_known_person(service: Service) -> str:
    """Somebody of whom there is something in every collection."""
    person = {
        "name": NAME,
        "phone": f"+91{DIGITS}",
        "unit": UNIT,
        "email": EMAIL,
        "platforms": [{"platform": "telegram", "handle": HANDLE}],
        "consents": [CONSENT],
    }
    answer = await service.post(person, idempotency_key=new_id())
    assert answer.status_code == 201, answer.text
    member_id: str = answer.json()["id"]
    await ok(service, "PUT", "/v1/notices/1/hi", json={"text": "We write to you."})
    proof = {"notice": "1", "language": "hi", "evidence": "form 1"}
    await ok(service, "PUT", f"/v1/members/{member_id}/consents/broadcast/sms", json=proof)
    await ok(service, "PUT", f"/v1/members/{member_id}/roles/youth?unit={UNIT}", json={})
    return member_id


async def ok(service: Service, method: str, path: str, **sent: Any) -> httpx2.Response:
    answer = await service.http.request(method, path, **sent)
    assert answer.is_success, answer.text
    return answer


async def erase(service: Service, member_id: str) -> Document:
    answer = await service.http.post(f"/v1/members/{member_id}/erasure")
    assert answer.status_code == 202, answer.text
    erasure: Document = answer.json()
    assert answer.headers["location"] == f"/v1/erasures/{erasure['id']}"
    return erasure


def answers(erasure: Document, *, attempt: int = 1, groups: Sequence[str] = ()) -> list[Event]:
    about = {"erasure_id": erasure["id"], "member_id": erasure["member_id"], "attempt": attempt}
    first, *others = ANSWERS
    return [
        first(**about, destroyed={"seats": len(groups)}, group_ids=tuple(groups)),
        *(answer(**about, destroyed={"things": 1}) for answer in others),
    ]


async def in_state(service: Service, erasure: Document, state: str) -> Document:
    found: Document = {}

    async def there() -> bool:
        nonlocal found
        found = (await ok(service, "GET", f"/v1/erasures/{erasure['id']}")).json()
        return bool(found["state"] == state)

    await service.app.until(there)
    return found


async def places_that_know(db: Database, *words: str) -> list[str]:
    """Collections whose documents contain one of `words`, in whatever field."""
    wanted = [word.encode() for word in words]
    known = []
    for name in await db.list_collection_names():
        async for row in db[name].find({}):
            if any(word in bson.encode(row) for word in wanted):
                known.append(name)
                break
    return sorted(known)


async def traces(service: Service, member_id: str) -> list[str]:
    row = await service.stored(member_id)
    return [*NAME.split(), *NAME.lower().split(), DIGITS, EMAIL, HANDLE, row["phone_index"]]


async def test_nothing_is_known_and_nobody_is_found(settings: MembersSettings, keys: Keys) -> None:
    async with erasing(settings, keys) as service:
        member_id = await a_known_person(service)
        words = await traces(service, member_id)
        assert await places_that_know(service.db, *words) == ["idempotency", "members"]
        erasure = await erase(service, member_id)

        assert await places_that_know(service.db, *words) == []
        await service.app.until(lambda: quiet(service.app.runtime))
        assert await places_that_know(service.db, member_id) == ["erasures"]
        for path in ("", "/consents", "/consents/proof", "/roles"):
            assert (await service.http.get(f"/v1/members/{member_id}{path}")).status_code == 404
        found = (await ok(service, "GET", f"/v1/members?unit={UNIT}&count=true")).json()
        assert (found["items"], found["total"]["count"]) == ([], 0)
        assert (await ok(service, "GET", f"/v1/members?q={NAME.split(maxsplit=1)[0]}")).json()["items"] == []
        assert NAME not in (await ok(service, "GET", "/v1/members/export")).text
        resolved = (await ok(service, "POST", "/v1/members/resolve", json={"ids": [member_id]})).json()
        assert resolved == {"items": [], "missing": [member_id]}
        assert (await ok(service, "GET", f"/v1/units/{UNIT}/officers")).json()["items"] == []
        assert (await service.http.delete(f"/v1/members/{member_id}")).status_code == 404

        assert await erase(service, member_id) == erasure, "asking twice is asking once"
        again = await service.register(name=NAME, phone=f"+91{DIGITS}")
        assert again["id"] != member_id, "the person may join anew"


async def test_three_answers_end_it_and_others_change_nothing(settings: MembersSettings, keys: Keys) -> None:
    async with erasing(settings, keys) as service:
        member_id = await a_known_person(service)
        erasure = await erase(service, member_id)
        group_id = new_id()
        in_groups, in_notifications, in_analytics = answers(erasure, groups=[group_id])
        forged = [
            in_groups.model_copy(update={"member_id": new_id()}),
            in_groups.model_copy(update={"attempt": 2}),
            in_groups.model_copy(update={"erasure_id": new_id()}),
        ]
        await service.app.publish(in_groups, in_groups, in_notifications, *forged)

        async def refused() -> bool:
            return await service.db["dead_letters"].count_documents({"reason": "unknown_erasure"}) == 3

        await service.app.until(refused)
        waiting = await in_state(service, erasure, "requested")
        assert waiting["certificate"] is None
        assert waiting["acknowledgements"]["analytics"] is None
        assert waiting["acknowledgements"]["groups"]["destroyed"] == {"seats": 1}

        await service.app.publish(in_analytics)
        ended = await in_state(service, erasure, "erased")
        certificate = ended["certificate"]
        assert certificate["destroyed"]["members"] == {
            "members": 1,
            "consent_ledger": 2,
            "role_terms": 1,
            "role_history": 1,
            **dict.fromkeys(("lost", "duplicates", "merge_traces", "grievances"), 0),
        }
        assert certificate["destroyed"]["groups"] == {"seats": 1}
        assert {each["what"].split()[0] for each in certificate["expiring"]} == {"dumps", "plans"}

        removals = f"/v1/erasures/{erasure['id']}/removals"
        who = (await ok(service, "GET", removals)).json()
        assert (who["name"], who["phone"]) == (NAME, f"+91{DIGITS}")
        assert await service.db["contact_reads"].count_documents({"via": "removal", "ids": member_id}) == 1
        assert (await service.http.post(f"{removals}/{new_id()}")).status_code == 404
        await ok(service, "POST", f"{removals}/{group_id}")
        who = (await ok(service, "GET", removals)).json()
        assert (who["name"], who["phone"], len(who["items"])) == (None, None, 1)
        row = await service.db["erasures"].find_one({"_id": erasure["id"]})
        assert row is not None
        assert "number" not in row

        events = [e for e in await service.log() if e.subject == member_id]
        assert [e.sequence for e in events] == list(range(1, len(events) + 1))
        assert [type(e.data) for e in events[-2:]] == [MemberErasureRequested, MemberErased]


async def test_who_does_not_answer_is_asked_again(settings: MembersSettings, keys: Keys) -> None:
    hasty = settings.model_copy(update={"erasure_again_seconds": 0.2})
    async with erasing(hasty, keys) as service:
        erasure = await erase(service, (await service.register())["id"])

        async def asked_again() -> bool:
            return bool((await ok(service, "GET", f"/v1/erasures/{erasure['id']}")).json()["attempt"] >= 3)

        await service.app.until(asked_again)
        await service.app.publish(*answers(erasure, attempt=2))
        await in_state(service, erasure, "erased")
        await service.app.until(lambda: quiet(service.app.runtime))
        asked = [e.data for e in await service.log() if isinstance(e.data, MemberErasureRequested)]
        assert [each.attempt for each in asked] == list(range(1, len(asked) + 1))
        assert len(asked) >= 3


async def test_neither_a_plan_nor_a_request_that_is_sent_again_makes_who_was_erased(
    settings: MembersSettings, keys: Keys
) -> None:
    async with erasing(settings, keys) as service:
        file = f"name,phone,unit\n{NAME},{DIGITS},{UNIT}\nBela,9876501236,{UNIT}\nCarol,12,{UNIT}\n"
        plan = await importing.planned(service, file)
        key, person = new_id(), {"name": NAME, "phone": f"+91{DIGITS}", "unit": UNIT}
        member = await service.post(person, idempotency_key=key)
        erasure = await erase(service, member.json()["id"])
        again = await service.post(person, idempotency_key=key)
        assert (again.status_code, "erased" in again.json()["detail"]) == (422, True)
        await service.app.publish(*answers(erasure))
        await in_state(service, erasure, "erased")

        shown = (await ok(service, "GET", f"/v1/imports/{plan['id']}/rows")).json()["items"]
        assert [row["line"] for row in shown] == [3]
        applied = await importing.applied(service, plan["id"])
        assert applied["applied"] == {"created": 1, "updated": 0, "set_aside": 1}
        errors = (await ok(service, "GET", f"/v1/imports/{plan['id']}/errors")).text
        assert (NAME in errors, "Carol" in errors) == (False, True)
        assert [each["name"] async for each in service.db["members"].find({})] == ["Bela"]
        assert (await service.post(person, idempotency_key=key)).status_code == 422


async def test_a_seal_keeps_it_apart_for_a_year(settings: MembersSettings, keys: Keys) -> None:
    """While it is sealed, an import does not bring the person back; then it is destroyed."""
    by_rule = settings.model_copy(update={"erasure_rule": Rule.DPDP_8_3})
    async with erasing(by_rule, keys) as service:
        member_id = await a_known_person(service)
        words = await traces(service, member_id)
        erasure = await erase(service, member_id)
        await service.app.publish(*answers(erasure))
        sealed = await in_state(service, erasure, "sealed")
        assert sealed["sealed_until"][:4] == str(int(sealed["requested_at"][:4]) + 1)
        assert sealed["certificate"] is None
        assert await places_that_know(service.db, *words) == ["erasure_seals"]
        assert await places_that_know(service.db, *words[:-1]) == [], "only the fingerprint is in the clear"
        [plan_] = [await planned(service, f"name,phone,unit\n{NAME},{DIGITS},{UNIT}\n")]
        assert plan_["reasons"] == {"erased": 1}

        past = {"$set": {"next_at": datetime.fromisoformat(sealed["requested_at"])}}
        await service.db["erasures"].update_one({"_id": erasure["id"]}, past)
        ended = await in_state(service, erasure, "erased")
        assert ended["certificate"]["destroyed"]["members"]["consent_ledger"] == 2
        assert await places_that_know(service.db, *words) == ["import_seen"]


async def test_an_import_by_id_is_refused_for_good(settings: MembersSettings, keys: Keys) -> None:
    """Without a seal nobody knows the phone: the same row without the id is a new person."""
    async with erasing(settings, keys) as service:
        member_id = await a_known_person(service)
        await erase(service, member_id)
        rows = f"id,name,phone,unit\n{member_id},{NAME},{DIGITS},{UNIT}\n{new_id()},A,9876501235,{UNIT}\n"
        assert (await planned(service, rows))["reasons"] == {"erased": 1, "unknown_id": 1}
        assert (await planned(service, f"name,phone,unit\n{NAME},{DIGITS},{UNIT}\n"))["new"] == 1


async def test_a_dump_brings_nobody_back(settings: MembersSettings, keys: Keys, tmp_path: Path) -> None:
    """One erased after the dump, one whose erasure had ended, one who joined after it, and late events."""
    async with erasing(settings, keys) as service:
        kept = (await service.register())["id"]
        asked, ended = await a_known_person(service), (await service.register(name="Rukmini Sah"))["id"]
        words = [*(await traces(service, asked)), "Rukmini"]
        await service.app.until(lambda: quiet(service.app.runtime))
        directory = await taken(settings, tmp_path / "dump")
        late = (await service.register())["id"]
        erasures = [await erase(service, each) for each in (asked, ended, late)]
        await service.app.publish(*answers(erasures[1]))
        await in_state(service, erasures[1], "erased")
        await service.app.until(lambda: quiet(service.app.runtime))

    anew = Anew(settings, build, plan)
    async with databases(settings):
        await restored(settings, directory, anew)
        assert await anew.run(resume=True)
        assert await anew.run(resume=True), "twice is once"
        async with erasing(anew.settings, keys) as service:
            assert [row["_id"] async for row in service.db["members"].find({})] == [kept]
            assert await places_that_know(service.db, *words) == []
            assert await service.db["lost"].count_documents({}) == 0
            states = [(await ok(service, "GET", f"/v1/erasures/{e['id']}")).json()["state"] for e in erasures]
            assert states == ["requested", "erased", "requested"]
            await service.app.publish(*answers(erasures[0]), *answers(erasures[2]))
            await in_state(service, erasures[0], "erased")
            await in_state(service, erasures[2], "erased")
            await service.app.until(lambda: quiet(service.app.runtime))
        log = {e.id: e for e in map(decode, await the_log(settings, [TOPIC]))}.values()
        for member_id in (asked, ended, late):
            about = [e for e in log if e.subject == member_id]
            assert [e.sequence for e in about] == list(range(1, len(about) + 1))
            assert [type(e.data) for e in about[-2:]] == [MemberErasureRequested, MemberErased]


@asynccontextmanager
async def retaining(service: Service, settings: MembersSettings, days: int = 365) -> AsyncIterator[Retention]:
    """The retention of a service, whose own rests."""
    vault = Vault(service.app.runtime.client, service.db, settings.master_keys)
    contacts = Contacts(vault, BlindIndex(settings.blind_index_key))
    counted = MembersMetrics(CollectorRegistry())
    clock, keep = service.app.runtime.server_clock, timedelta(days=days)
    yield Retention(RetentionStore(service.db), contacts, clock, counted, keep)
    await vault.close()


async def age(service: Service, days: int, *member_ids: str) -> None:
    """As if the last change of the members, and merges of them, had been that many days earlier."""
    milliseconds = timedelta(days=days) // timedelta(milliseconds=1)
    of = {"$in": list(member_ids)}
    for name, field, query in (("members", "updated_at", {"_id": of}), ("merges", "at", {"other": of})):
        earlier = [{"$set": {field: {"$subtract": [f"${field}", milliseconds]}}}]
        await service.db[name].update_many(query, earlier)


async def phone(service: Service, member_id: str) -> str | None:
    """As a caller is shown it."""
    shown: Document = (await ok(service, "GET", f"/v1/members/{member_id}")).json()
    return shown.get("phone")


async def test_contacts_of_those_who_left_go(settings: MembersSettings, keys: Keys) -> None:
    async with erasing(settings, keys) as service, retaining(service, settings) as retention:
        long_ago, lately, active = [(await service.register())["id"] for _ in range(3)]
        for member_id in (long_ago, lately):
            await ok(service, "DELETE", f"/v1/members/{member_id}")
        await age(service, 366, long_ago, active)
        assert await retention.turn() is Turn.SOME
        assert await retention.turn() is Turn.NOTHING
        assert (await service.stored(long_ago))["phone_index"] == ""
        assert await phone(service, long_ago) is None
        assert await phone(service, lately)
        assert await phone(service, active)


async def test_contacts_of_merged_records_go_once_the_merge_is_for_good(
    settings: MembersSettings, keys: Keys
) -> None:
    """Their fingerprints stay as long as the person has a contact: an old list makes no new member."""
    async with erasing(settings, keys) as service, retaining(service, settings) as retention:
        one, two, three, fresh = [await service.register(name=f"{NAME} {n}") for n in "abcd"]
        merges = {}
        for survivor, other in ((two, three), (one, two), (one, fresh)):
            path = f"/v1/members/{survivor['id']}/merge"
            merges[other["id"]] = (await ok(service, "POST", path, json={"other": other["id"]})).json()["id"]
        await age(service, 31, two["id"], three["id"])
        await age(service, 29, fresh["id"])
        undo = f"/v1/merges/{merges[two['id']]}/undo"
        assert (await service.http.post(undo)).json()["type"].endswith(":merge-expired")

        assert await retention.turn() is Turn.SOME
        assert await retention.turn() is Turn.NOTHING
        assert [await phone(service, each["id"]) for each in (one, two, three, fresh)] == [
            one["phone"],
            None,
            None,
            fresh["phone"],
        ]
        assert not await places_that_know(service.db, two["phone"], three["phone"])
        rows = [f"{NAME},{each['phone']},{UNIT}\n" for each in (two, three, fresh)]
        assert (await planned(service, f"name,phone,unit\n{''.join(rows)}"))["reasons"] == {"merged": 3}
        assert (await service.http.post(undo)).json()["type"].endswith(":merge-expired")

        await ok(service, "DELETE", f"/v1/members/{one['id']}")
        await age(service, 366, one["id"])
        assert await retention.turn() is Turn.SOME
        await age(service, 2, fresh["id"])
        assert await retention.turn() is Turn.SOME, "undoable when the person's own contact went"
        assert await retention.turn() is Turn.NOTHING
        for member in (one, two, three, fresh):
            row = await service.stored(member["id"])
            assert (row["phone_index"], "former_phone" in row) == ("", False)
        assert (await planned(service, f"name,phone,unit\n{rows[0]}"))["new"] == 1, "nobody remembers them"


async def test_retention_finds_its_members_by_an_index(settings: MembersSettings, keys: Keys) -> None:
    async with erasing(settings, keys) as service, retaining(service, settings) as retention:
        due = [(await service.register())["id"] for _ in range(2)]
        row = await service.stored(due[0])
        others = [
            row | {"_id": new_id(), "status": status, "phone_index": "", "updated_at": row["updated_at"]}
            for status in ("left", "merged")
            for _ in range(300)
        ]
        await service.db["members"].insert_many(others)
        ways = [("left", None), ("merged", due[0])]
        for member_id, (status, into) in zip(due, ways, strict=True):
            change = {"$set": {"status": status, "merged_into": into}}
            await service.db["members"].update_one({"_id": member_id}, change)
        await age(service, 400, *due, *[each["_id"] for each in others])
        await service.db.command("profile", 2)
        assert await retention.turn() is Turn.SOME
        await service.db.command("profile", 0)
        mine = {"ns": f"{settings.database}.members", "command.hint": {"$exists": True}, "op": "query"}
        hinted = [each async for each in service.db["system.profile"].find(mine)]
        looked = [each for each in hinted if "with_contact" in str(each["command"]["hint"])]
        assert len(looked) == 2
        for each in looked:
            assert each["planSummary"].startswith("IXSCAN"), each["planSummary"]
            assert (each["docsExamined"], each["nreturned"]) == (1, 1)


async def test_two_who_ask_at_once_get_one_erasure(settings: MembersSettings, keys: Keys) -> None:
    async with erasing(settings, keys) as service:
        member_id = (await service.register())["id"]
        asked = await asyncio.gather(*(erase(service, member_id) for _ in range(5)))
        assert len({each["id"] for each in asked}) == 1
        await service.app.until(lambda: quiet(service.app.runtime))
        requested = [e for e in await service.log() if isinstance(e.data, MemberErasureRequested)]
        assert len(requested) == 1


@pytest.mark.parametrize("unit", ["BR-GAYA", None])
async def test_others_are_not_told(settings: MembersSettings, keys: Keys, unit: str | None) -> None:
    async with erasing(settings, keys) as service:
        member_id = (await service.register())["id"]
        elsewhere, path = service.app.auth(STAFF, unit), f"/v1/members/{member_id}/erasure"
        assert (await service.http.post(path, headers=elsewhere)).status_code == 404
        erasure = await erase(service, member_id)
        for shown in (f"/v1/erasures/{erasure['id']}", f"/v1/erasures/{erasure['id']}/removals"):
            assert (await service.http.get(shown, headers=elsewhere)).status_code == 404
        listed = await service.http.get("/v1/erasures", headers=elsewhere)
        assert listed.status_code == 404 or listed.json()["items"] == []
        assert (await service.http.post(path, headers=elsewhere)).status_code == 404


async def planned(service: Service, content: str) -> Document:
    headers = {"content-type": "text/csv"}
    import_id = (await ok(service, "POST", "/v1/imports", content=content.encode(), headers=headers)).json()[
        "id"
    ]

    found: Document = {}

    async def done() -> bool:
        nonlocal found
        found = await service.db["imports"].find_one({"_id": import_id}) or {}
        return "planned_at" in found

    await service.app.until(done)
    counts = found.get("counts", {})
    return {**counts, "reasons": found.get("refused", {})}


async def test_a_process_that_is_gone_is_followed_by_the_next(settings: MembersSettings, keys: Keys) -> None:
    """Between any two steps the process may end; and two processes do each step once."""
    by_rule = settings.model_copy(update={"erasure_rule": Rule.DPDP_8_3, "erasure_again_seconds": 0.3})
    await make_topics(by_rule)
    scopes = STAFF.split()
    async with started(build, by_rule, keys=keys, admin_scopes=scopes) as app:
        service = Service(app)
        erasure = await erase(service, (await service.register())["id"])
    first, *others = answers(erasure)
    for step in ([first, first], others):
        await app.publish(*step)
        async with started(build, by_rule, keys=keys, admin_scopes=scopes) as app:
            await heard(Service(app), erasure, {type(each) for each in step})
    async with (
        started(build, by_rule, keys=keys, admin_scopes=scopes) as app,
        started(build, by_rule, keys=keys, admin_scopes=scopes),
    ):
        service = Service(app)
        await in_state(service, erasure, "sealed")
        past = {"$set": {"next_at": datetime.fromisoformat(erasure["requested_at"])}}
        await service.db["erasures"].update_one({"_id": erasure["id"]}, past)
        await in_state(service, erasure, "erased")
        await app.until(lambda: quiet(app.runtime))
        events = {e.id: e for e in await app.log(TOPIC)}.values()
        about = sorted(e.sequence for e in events if e.subject == erasure["member_id"])
        assert about == list(range(1, len(about) + 1))
        assert sum(isinstance(e.data, MemberErased) for e in events) == 1
        assert await service.db["erasure_seals"].count_documents({}) == 0
        await app.runtime.client.drop_database(by_rule.database)


async def heard(service: Service, erasure: Document, kinds: set[type[Event]]) -> None:
    names = {kind.source.removeprefix("/") for kind in kinds}

    async def all_noted() -> bool:
        found = (await ok(service, "GET", f"/v1/erasures/{erasure['id']}")).json()
        return all(found["acknowledgements"][name] for name in names)

    await service.app.until(all_noted)


@pytest.mark.parametrize("asked", [0, 1, 2])
async def test_with_a_member_go_all_records_that_were_merged(
    settings: MembersSettings, keys: Keys, asked: int
) -> None:
    async with erasing(settings, keys) as service:
        records = [(await service.register(name=f"{NAME} {n}"))["id"] for n in "abc"]
        bystander = (await service.register(name="Ravi Kumar"))["id"]
        first, second, third = records
        for survivor, other in ((second, third), (first, second)):
            await ok(service, "POST", f"/v1/members/{survivor}/merge", json={"other": other})
        indexes = [(await service.stored(each))["phone_index"] for each in records]
        erasure = await erase(service, records[asked])

        assert erasure["member_id"] == records[asked]
        assert (await erase(service, records[asked]))["id"] == erasure["id"]
        shown = (await ok(service, "GET", "/v1/erasures")).json()["items"]
        assert {each["member_id"] for each in shown} == set(records)
        assert await places_that_know(service.db, *NAME.split(), *indexes) == []
        assert await service.db["merge_traces"].count_documents({}) == 0
        assert (await service.stored(bystander))["status"] == "active"
        [undone] = {
            (await service.http.post(f"/v1/merges/{row['_id']}/undo")).status_code
            async for row in service.db["merges"].find()
        }
        assert undone == 404
