"""Members restored from a dump: later events stay true, and lost members are announced as left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.local.keys import Keys
from services.members.app import build
from services.members.recovery.rebuild_plan import plan
from services.members.settings import MembersSettings
from services.shared.config.settings import ServiceSettings
from services.shared.contracts.members import MemberLeft
from services.shared.messaging import decode
from services.shared.operations import backup
from services.shared.operations.backup import BackupError, check
from services.shared.operations.commands import commands
from services.shared.operations.rebuild import RebuildError
from tests.fixtures.rebuilding import Anew, databases, quiet, restored, taken, the_log
from tests.integration.members.conftest import TOPIC, UNIT, Service, serving

STRICT = {"validationLevel": "strict", "validationAction": "error"}
"""Defaults of a validator, which a collection states once the validator has been set afterwards."""


async def move(service: Service, member_id: str, unit: str) -> None:
    answer = await service.http.post(f"/v1/members/{member_id}/move", json={"unit": unit})
    assert answer.status_code == 200, answer.text


@pytest.mark.heavy
async def test_what_was_told_of_is_kept_and_who_is_lost_has_left(
    settings: MembersSettings, keys: Keys, tmp_path: Path
) -> None:
    async with serving(settings, keys) as service:
        moved, gone, changed, same = [(await service.register())["id"] for _ in range(4)]
        await service.app.until(lambda: quiet(service.app.runtime))
        directory = await taken(settings, tmp_path / "dump")
        await move(service, moved, "BR-GAYA")
        assert (await service.http.delete(f"/v1/members/{gone}")).status_code in (200, 204)
        version = {"if-match": '"1"'}
        change = {"phone": "+919812312312", "gender": "female"}
        answer = await service.http.patch(f"/v1/members/{changed}", json=change, headers=version)
        assert answer.status_code == 200, answer.text
        late, late_and_gone = [(await service.register())["id"] for _ in range(2)]
        assert (await service.http.delete(f"/v1/members/{late_and_gone}")).status_code in (200, 204)
        await service.app.until(lambda: quiet(service.app.runtime))

    anew = Anew(settings, build, plan)
    async with databases(settings) as look:
        with pytest.raises(RebuildError, match="restore a dump"):
            await anew.run()
        await look(anew.settings.database).client.drop_database(anew.settings.database)
        await restored(settings, directory, anew, dry_run=True)
        assert not await look(anew.settings.database).list_collection_names()
        await restored(settings, directory, anew)
        with pytest.raises(BackupError, match="not empty"):
            await restored(settings, directory, anew)
        assert await anew.run(resume=True)
        assert "1 who joined after the dump are lost" in anew.said
        assert "1 have changed their name or contact" in anew.said
        assert await anew.run(resume=True), "twice is once"

        async with serving(anew.settings, keys) as service:
            rows = {row["_id"]: row async for row in service.db["members"].find({})}
            said = {i: (r["unit"], r["status"], r["version"], r["gender"]) for i, r in rows.items()}
            assert said == {
                moved: ("BR-GAYA", "active", 2, "undisclosed"),
                gone: (UNIT, "left", 2, "undisclosed"),
                changed: (UNIT, "active", 2, "female"),
                same: (UNIT, "active", 1, "undisclosed"),
            }
            assert [i for i, row in rows.items() if row.get("contact_lost")] == [changed]
            shown = await service.http.get(f"/v1/members/{changed}")
            assert shown.json()["phone"] != "+919812312312", "sealed contacts open as of the dump"
            await move(service, moved, UNIT)
            await service.app.until(lambda: quiet(service.app.runtime))
        log = {e.id: e for e in map(decode, await the_log(settings, [TOPIC]))}.values()
        assert [(e.sequence, type(e.data)) for e in log if e.subject == late][1:] == [(2, MemberLeft)]
        assert len([e for e in log if e.subject == late_and_gone]) == 2
        assert [e.sequence for e in log if e.subject == moved] == [1, 2, 3], (
            "its next change is not a stale one"
        )


async def test_what_was_withdrawn_after_the_dump_is_withdrawn_again(
    settings: MembersSettings, keys: Keys, tmp_path: Path
) -> None:
    """A consent given after it is not given again, for its proof is lost; roles are those of the log."""
    sms = {"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}
    staff = "members:* consents:write notices:write"
    consent = {"notice": "1", "language": "hi", "evidence": "form 1"}

    async with serving(settings, keys) as service:
        headers = service.app.auth(staff)

        async def act(method: str, path: str, body: object = None) -> None:
            sent = {} if body is None else {"json": body}
            answer = await service.http.request(method, f"/v1{path}", headers=headers, **sent)  # type: ignore[arg-type]
            assert answer.is_success, answer.text

        await act("PUT", "/notices/1/hi", {"text": "We write to you."})
        gone, back, new, chief = [(await service.register(consents=[sms]))["id"] for _ in range(4)]
        refusing = (await service.register())["id"]
        await service.app.until(lambda: quiet(service.app.runtime))
        directory = await taken(settings, tmp_path / "dump")
        for member in (gone, back):
            await act("DELETE", f"/members/{member}/consents/welcome/sms")
        await act("PUT", f"/members/{back}/consents/welcome/sms", consent)
        await act("PUT", f"/members/{new}/consents/broadcast/sms", consent)
        await act("DELETE", f"/members/{refusing}/consents/broadcast/sms")
        await act("PUT", f"/members/{chief}/roles/youth?unit={UNIT}", {"until": "2100-01-01T00:00:00Z"})
        await service.app.until(lambda: quiet(service.app.runtime))

    anew = Anew(settings, build, plan)
    async with databases(settings):
        await restored(settings, directory, anew)
        assert await anew.run(resume=True)
        assert "2 have given a consent since" in anew.said
        assert await anew.run(resume=True), "twice is once"
        async with serving(anew.settings, keys) as service:
            consents = {}
            for member in (gone, back, new, refusing):
                told = (await service.http.get(f"/v1/members/{member}/consents")).json()
                consents[member] = [(i["state"], i["source"]) for i in told["items"]]
                assert [c["state"] for c in told["state"]] == [told["items"][-1]["state"]]
            withdrawn = [("given", "registration"), ("withdrawn", "recovery")]
            assert consents == {
                gone: withdrawn,
                back: withdrawn,
                new: withdrawn[:1],
                refusing: withdrawn[1:],
            }
            [term] = (await service.http.get(f"/v1/members/{chief}/roles")).json()["items"]
            assert (term["role"], term["unit"], term["until"]) == ("youth", UNIT, "2100-01-01T00:00:00Z")
            headers = service.app.auth(staff)
            await act("DELETE", f"/members/{chief}/roles/youth?unit={UNIT}")
            assert (await service.stored(chief))["version"] == 3


async def test_what_was_merged_after_the_dump_stays_merged_and_who_was_parted_stays_parted(
    settings: MembersSettings, keys: Keys, tmp_path: Path
) -> None:
    async with serving(settings, keys) as service:

        async def post(path: str, body: object = None) -> str:
            answer = await service.http.post(f"/v1{path}", json=body)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["id"])

        one, two, root, parted = [(await service.register())["id"] for _ in range(4)]
        headers = service.app.auth("members:write members:read")
        await service.http.put(f"/v1/members/{two}/roles/youth?unit={UNIT}", json={}, headers=headers)
        merge = await post(f"/members/{root}/merge", {"other": parted})
        await service.app.until(lambda: quiet(service.app.runtime))
        directory = await taken(settings, tmp_path / "dump")
        late = (await service.register())["id"]
        await post(f"/members/{one}/merge", {"other": two})
        await post(f"/members/{one}/merge", {"other": late})
        await post(f"/merges/{merge}/undo")
        await service.app.until(lambda: quiet(service.app.runtime))

    anew = Anew(settings, build, plan)
    async with databases(settings):
        await restored(settings, directory, anew)
        assert await anew.run(resume=True)
        assert await anew.run(resume=True), "twice is once"
        async with serving(anew.settings, keys) as service:
            shown = [
                (await service.http.get(f"/v1/members/{each}")).json() for each in (one, two, root, parted)
            ]
            assert [(each["status"], each["merged_into"]) for each in shown] == [
                ("active", None),
                ("merged", one),
                ("active", None),
                ("active", None),
            ]
            assert [each["roles"] for each in shown] == [[{"role": "youth", "unit": UNIT}], [], [], []]
            [term] = [row async for row in service.db["role_terms"].find({})]
            assert term["member_id"] == one
            lost = [row async for row in service.db["lost"].find({})]
            assert [(row["_id"], row["left"], "told" in row) for row in lost] == [(late, True, False)]


async def test_who_was_parted_and_whose_phone_is_taken_in_the_dump_is_aside_and_the_rest_goes_on(
    settings: MembersSettings, keys: Keys, tmp_path: Path
) -> None:
    """The holder has another phone since; or has left; or was parted as well, and has left."""
    async with serving(settings, keys) as service:
        post = service.http.post
        root = (await service.register())["id"]
        parted, merges, holders = [], [], []
        for _ in range(3):
            member = await service.register()
            merge = await post(f"/v1/members/{root}/merge", json={"other": member["id"]})
            parted.append(member["id"])
            merges.append(merge.json()["id"])
            holders.append((await service.register(phone=member["phone"]))["id"])
        merge = await post(f"/v1/members/{root}/merge", json={"other": holders[2]})
        await service.app.until(lambda: quiet(service.app.runtime))
        directory = await taken(settings, tmp_path / "dump")
        change = {"phone": "+919812312312"}
        path = f"/v1/members/{holders[0]}"
        assert (await service.http.patch(path, json=change, headers={"if-match": '"1"'})).is_success
        # So many changes that the log tells of the leaving only after the other one was parted.
        for unit in ("BR-GAYA", UNIT, "BR-PATNA"):
            await move(service, holders[1], unit)
        assert (await service.http.delete(f"/v1/members/{holders[1]}")).is_success
        assert (await post(f"/v1/merges/{merge.json()['id']}/undo")).is_success
        assert (await service.http.delete(f"/v1/members/{holders[2]}")).is_success
        for merge_id in merges:
            assert (await post(f"/v1/merges/{merge_id}/undo")).is_success
        headers = service.app.auth("members:write members:read")
        for member_id in parted[:2]:
            role = f"/v1/members/{member_id}/roles/youth?unit={UNIT}"
            assert (await service.http.put(role, json={}, headers=headers)).is_success
        await service.app.until(lambda: quiet(service.app.runtime))

    anew = Anew(settings, build, plan)
    async with databases(settings):
        await restored(settings, directory, anew)
        assert await anew.run(resume=True)
        for said in ("1 were parted from another member", "phone_taken"):
            assert said in anew.said
        assert await anew.run(resume=True), "twice is once"
        async with serving(anew.settings, keys) as service:
            await service.app.until(lambda: quiet(service.app.runtime))
            stored = [await service.stored(each) for each in parted]
            assert [(row["status"], row.get("phone_taken")) for row in stored] == [
                ("left", True),
                ("active", None),
                ("active", None),
            ]
            assert [len(row["roles"]) for row in stored] == [0, 1, 0]
            terms = [row["member_id"] async for row in service.db["role_terms"].find({})]
            assert terms == [parted[1]]
            assert [(await service.stored(each))["status"] for each in holders] == ["active", "left", "left"]
        log = {e.id: e for e in map(decode, await the_log(settings, [TOPIC]))}.values()
        for member_id in parted:
            about = [e for e in log if e.subject == member_id]
            assert [e.sequence for e in about] == list(range(1, len(about) + 1))
            assert isinstance(about[-1].data, MemberLeft) is (member_id == parted[0])


async def test_a_dump_is_the_database_at_one_instant(
    settings: MembersSettings, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody joins after each collection has been read, and is in none of those that follow."""
    anew, loop = Anew(settings, build, plan), asyncio.get_running_loop()
    read = backup._dump_documents

    def read_and_join(*given: Any) -> int:
        count = read(*given)
        asyncio.run_coroutine_threadsafe(service.register(), loop).result(10)
        return count

    monkeypatch.setattr(backup, "_dump_documents", read_and_join)
    async with databases(settings) as look, serving(settings, keys) as service:
        first = await service.register()
        await service.app.until(lambda: quiet(service.app.runtime))
        directory = await taken(settings, tmp_path / "dump")
        await restored(settings, directory, anew)
        new, old = look(anew.settings.database), look(settings.database)
        assert await old["members"].count_documents({}) > 5
        assert await new["members"].distinct("_id") == [first["id"]]
        assert await new["outbox"].count_documents({}) == 0
        names = set(await old.list_collection_names()) - {"leases"}
        assert names == set(await new.list_collection_names()) - {"rebuild"}
        for name in names:
            assert await new[name].index_information() == await old[name].index_information()
            options, before = await new[name].options(), await old[name].options()
            assert options == {**before, **STRICT} if "validator" in before else options == before


@pytest.mark.parametrize("harm", ["cut", "missing", "unfinished", "stranger"])
async def test_a_dump_that_is_not_whole_is_refused(
    settings: MembersSettings, keys: Keys, tmp_path: Path, harm: str
) -> None:
    async with serving(settings, keys) as service:
        await service.register()
        directory = await taken(settings, tmp_path / "dump")
        with pytest.raises(BackupError, match="not empty"):
            await taken(settings, directory)
    file = directory / "members.bson.gz"
    asked: ServiceSettings = settings
    match harm:
        case "cut":
            file.write_bytes(file.read_bytes()[:-1])
        case "missing":
            file.unlink()
        case "unfinished":
            (directory / "manifest.json").unlink()
        case _:
            asked = settings.model_copy(update={"service": "groups"})
    assert check(settings, directory) if harm == "stranger" else True
    with pytest.raises(BackupError):
        check(asked, directory)


async def test_a_command_that_fails_names_nobody(
    settings: MembersSettings, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(settings, keys) as service:
        await service.register(name="Suneeta Kumari")
        directory = await taken(settings, tmp_path / "dump")
    monkeypatch.setattr(backup, "_insert", twice(backup._insert))
    cli = commands(lambda: settings, build)
    anew = Anew(settings, build, plan).settings
    words = ["restore", str(directory), "--database", anew.database, "--group", anew.group]
    async with databases(settings):
        answer = await asyncio.to_thread(CliRunner().invoke, cli, words)
    assert answer.exit_code == 1
    assert "BulkWriteError" in answer.output
    assert "Suneeta" not in answer.output


def twice(insert: Callable[..., Iterator[int]]) -> Callable[..., Iterator[int]]:
    def repeated(*given: Any) -> Iterator[int]:
        yield from insert(*given)
        yield from insert(*given)

    return repeated
