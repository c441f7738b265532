"""Group admins: appointed, suggested, followed when they leave; gaps; and their page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from infra.local.ports import Ports
from services.shared.contracts.groups import TOPIC, GroupAdminsChanged
from services.shared.contracts.members import MemberJoined, MemberLeft, MemberRolesChanged, RoleHeld
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from tests.fixtures.apps import Running
from tests.integration.groups import test_rosters
from tests.integration.groups.test_erasure import acknowledged, request
from tests.integration.groups.test_placement import UNIT
from tests.integration.groups.test_rosters import (
    LINK,
    Members,
    a_group,
    drift,
    lapsed,
    make_due,
    set_link,
    upload,
)
from tests.integration.test_clients import serving

settings, groups = test_rosters.settings, test_rosters.groups

IMAGES = Path(__file__).parents[3] / "docs" / "images"


def with_role(role: str, unit: str) -> MemberRolesChanged:
    held = RoleHeld(role=role, unit=unit, since=datetime(2026, 1, 1, tzinfo=UTC))
    return MemberRolesChanged(member_id=new_id(), unit=unit, roles=(held,))


async def ok(groups: Running, method: str, path: str, **more: Any) -> Any:
    answer = await groups.http.request(method, path, **more)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


async def test_two_admins_are_appointed_and_one_who_leaves_is_followed(groups: Running) -> None:
    group_id, ids = await a_group(groups, 3)
    near, far = with_role("coordinator", UNIT), with_role("coordinator", "BR")
    joined = MemberJoined(
        member_id=new_id(),
        unit=UNIT,
        gender=Gender.FEMALE,
        language="hi",
        joined_at=datetime(2026, 11, 23, tzinfo=UTC),
        roles=("youth",),
    )
    await groups.publish(near, far, joined)
    path = f"/v1/groups/{group_id}/admins"

    async def suggested() -> bool:
        found = (await ok(groups, "GET", path))["suggested"]
        return [each["member_id"] for each in found] == [near.member_id, joined.member_id, far.member_id]

    await groups.until(suggested)
    [gap] = (await ok(groups, "GET", f"/v1/groups/gaps?unit={UNIT}"))["items"]
    assert (gap["group_id"], gap["admins"], gap["problems"]) == (group_id, 0, ["no_link", "no_admin"])
    for id_ in (*ids[:2], ids[0]):
        await ok(groups, "PUT", f"{path}/{id_}")
    assert [each["member_id"] for each in (await ok(groups, "GET", path))["items"]] == ids[:2]
    await set_link(groups, group_id)
    assert (await ok(groups, "GET", "/v1/groups/gaps"))["items"] == []
    assert (await groups.http.put(f"{path}/{new_id()}")).status_code == 404
    outside = groups.auth("groups:*", "BR-SIWAN")
    for answer in (
        await groups.http.get(path, headers=outside),
        await groups.http.put(f"{path}/{ids[2]}", headers=outside),
        await groups.http.get(f"/v1/groups/gaps?unit={UNIT}", headers=outside),
    ):
        assert answer.status_code == 404

    await groups.publish(MemberLeft(member_id=ids[0], unit=UNIT))

    async def one_left() -> bool:
        return len((await ok(groups, "GET", path))["items"]) == 1

    await groups.until(one_left)
    [gap] = (await ok(groups, "GET", "/v1/groups/gaps?problem=one_admin"))["items"]
    assert gap["problems"] == ["one_admin"]
    tasks = (await ok(groups, "GET", f"/v1/groups/{group_id}/tasks"))["items"]
    assert [(each["kind"], each["member_id"], each["successor"]) for each in tasks] == [
        ("hand_over", ids[0], near.member_id),
        ("remove", ids[0], None),
    ]
    await ok(groups, "DELETE", f"{path}/{ids[1]}")
    counted = [e.data.admins for e in await groups.log(TOPIC) if isinstance(e.data, GroupAdminsChanged)]
    assert counted == [1, 2, 1, 0]
    own = [e.sequence for e in await groups.log(TOPIC) if e.subject == group_id]
    assert own == list(range(1, len(own) + 1))


async def test_an_erased_member_is_to_be_removed_and_runs_nothing(groups: Running) -> None:
    group_id, ids = await a_group(groups, 2)
    await ok(groups, "PUT", f"/v1/groups/{group_id}/admins/{ids[0]}")
    asked = request(ids[0])
    await groups.publish(groups.envelope(asked, 9))
    [answer] = [e.data for e in await acknowledged(groups, 1) if "acknowledged" in e.type]
    assert answer.destroyed["appointments"] == 1  # type: ignore[attr-defined]
    tasks = (await ok(groups, "GET", f"/v1/groups/{group_id}/tasks"))["items"]
    assert {(each["kind"], each["member_id"]) for each in tasks} == {
        ("hand_over", ids[0]),
        ("remove", ids[0]),
    }
    row = await groups.runtime.database["admin_tasks"].find_one({"kind": "remove"})
    assert row is not None
    assert row["erasure_id"] == asked.erasure_id
    assert await groups.runtime.database["group_admins"].count_documents({}) == 0


class Desk(Members):
    """The members service as far as the page needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.removed: list[str] = []
        self.app.post("/v1/members/resolve")(self.resolve)
        self.app.get("/v1/erasures/{id}/removals")(self.removals)
        self.app.post("/v1/erasures/{id}/removals/{group_id}")(self.done)

    async def resolve(self, body: dict[str, Any]) -> dict[str, Any]:
        names = ("आशा देवी", "<b>Bina</b>", "Chanda Kumari", "दीपक यादव")
        return {
            "items": [
                {"id": id_, "name": names[n % 4], "phone": f"+91 98765 4321{n}"}
                for n, id_ in enumerate(body["ids"])
            ],
            "missing": [],
        }

    async def removals(self, id: str) -> dict[str, Any]:
        return {"name": "रेखा कुमारी", "phone": "+91 98765 43219", "items": []}

    async def done(self, id: str, group_id: str) -> dict[str, Any]:
        self.removed.append(f"{id}/{group_id}")
        return {"id": id}


@pytest.fixture
async def members() -> Desk:
    return Desk()


class Pages:
    def __init__(self, groups: Running) -> None:
        self.groups = groups
        transport = httpx2.ASGITransport(app=groups.app)
        self.http = httpx2.AsyncClient(transport=transport, base_url="http://page")

    async def issue(self, group_id: str, member_id: str | None = None) -> str:
        headers = self.groups.auth("groups:write invites:read contacts:read")
        body = {"member_id": member_id} if member_id else {}
        answer = await self.groups.http.post(f"/v1/groups/{group_id}/pages", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        url: str = answer.json()["url"]
        return url

    async def form(self, path: str) -> str:
        found = re.search(r'name="form" value="([0-9a-f]+)"', (await self.http.get(path)).text)
        assert found is not None
        return found[1]


@pytest.fixture
async def pages(groups: Running) -> AsyncIterator[Pages]:
    made = Pages(groups)
    yield made
    await made.http.aclose()


async def test_the_page_shows_only_what_its_link_is_for_and_no_link_says_why(
    groups: Running,
    pages: Pages,
) -> None:
    group_id, ids = await a_group(groups, 2)
    await ok(groups, "PUT", f"/v1/groups/{group_id}/admins/{ids[0]}")
    await set_link(groups, group_id)
    path = await pages.issue(group_id)
    shown = await pages.http.get(path)
    assert shown.status_code == 200
    assert LINK in shown.text
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert "no-store" in shown.headers["cache-control"]
    assert "<script" not in shown.text
    assert 'lang="en"' in (await pages.http.get(f"{path}?lang=en")).text
    assert LINK not in str(await groups.log(TOPIC))

    foreign = groups.keys.mint("groups:*", "*")
    own = await pages.issue(group_id, ids[0])
    await ok(groups, "DELETE", f"/v1/groups/{group_id}/admins/{ids[0]}")
    gone = {
        "forged": path[:-4] + ("AAAA" if path[-4:] != "AAAA" else "BBBB"),
        "foreign": f"/admin/{foreign}",
        "of an admin who was dismissed": own,
        "nonsense": "/admin/x",
    }
    answers = {what: await pages.http.get(each) for what, each in gone.items()}
    await pages.groups.runtime.database["admin_pages"].update_many(
        {"member_id": {"$exists": False}}, {"$set": {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}}
    )
    answers["expired"] = await pages.http.get(path)
    last = await pages.issue(group_id)
    await ok(groups, "DELETE", f"/v1/groups/{group_id}/pages")
    answers["revoked"] = await pages.http.get(last)
    answers["a form of one revoked"] = await pages.http.post(f"{last}/link", data={"link": LINK})
    assert {what: answer.status_code for what, answer in answers.items()} == dict.fromkeys(answers, 404)
    assert len({answer.text for answer in answers.values()}) == 1, "no answer tells why"
    assert "समन्वयक" in answers["revoked"].text


async def test_forms_need_their_token_and_change_what_they_say(
    groups: Running,
    pages: Pages,
    members: Desk,
) -> None:
    group_id, ids = await a_group(groups, 4)
    members.by_number = {f"987654321{n}": id_ for n, id_ in enumerate(ids)}
    path = await pages.issue(group_id)
    before = await pages.http.post(f"{path}/link", data={"link": LINK})
    assert before.status_code == 403, "without the form's token"
    other = await pages.issue(group_id)
    stolen = {"link": LINK, "form": await pages.form(other)}
    assert (await pages.http.post(f"{path}/link", data=stolen)).status_code == 403, "of another page"
    form = await pages.form(path)

    async def send(action: str, **fields: str) -> str:
        answer = await pages.http.post(f"{path}/{action}", data={"form": form, "lang": "en", **fields})
        assert answer.status_code == 303, answer.text
        location: str = answer.headers["location"]
        assert location.startswith(f"{path}?lang=en&said=")
        return location.rpartition("=")[2]

    assert await send("link", link="javascript:alert(1)") == "bad_link"
    assert await send("link", link=LINK) == "link"
    assert (await ok(groups, "GET", f"/v1/groups/{group_id}"))["invite_link"] == LINK
    assert await send("roster", text="nobody here") == "bad_roster"
    text = "Asha +91 98765 43210\n+91 98765 43211\n+91 90000 00000"
    assert await send("roster", text=text, complete="yes") == "roster"

    async def counted() -> bool:
        found = (await drift(groups, group_id))["counts"]
        return (found["joined"], found["never_came"], found["strangers"]) == (2, 2, 1)

    await groups.until(counted)
    for _ in range(2):
        await make_due(groups)
        await lapsed(groups, 2 * (_ + 1))
        await upload(groups, group_id, ids[:2])
    asked = request(ids[1])
    await groups.publish(groups.envelope(asked, 9))
    await acknowledged(groups, 1)
    shown = (await pages.http.get(f"{path}?lang=en")).text
    assert shown.count("Add to the group") == 2
    assert shown.count("Remove from the group") == 1
    assert "रेखा कुमारी" in shown, "of the erased, by the erasure"
    assert "<b>Bina" not in shown, "names are escaped"
    assert "&lt;b&gt;Bina" in shown
    tasks = re.findall(r'name="task" value="([^"]+)"', shown)
    for task in tasks:
        assert await send("done", task=task) == "done"
        assert await send("done", task=task) == "done"
    assert members.removed == [f"{asked.erasure_id}/{group_id}"]
    assert "Nothing to do" in (await pages.http.get(f"{path}?lang=en")).text
    assert (await drift(groups, group_id))["counts"]["joined"] == 3
    assert await groups.runtime.database["observations"].count_documents({"member_id": ids[1]}) == 0


async def test_a_link_is_slowed_down_alone(groups: Running, pages: Pages) -> None:
    group_id, _ = await a_group(groups, 1)
    path, other = await pages.issue(group_id), await pages.issue(group_id)
    statuses = [(await pages.http.get(path)).status_code for _ in range(40)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert (await pages.http.get(other)).status_code == 200


async def browse(*arguments: str, cwd: Path) -> str:
    """Run chromium without a screen; what it printed. Every request to another host fails and is logged."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("NOT TESTED: chromium is not installed (apt-get install chromium)")
    process = await asyncio.create_subprocess_exec(
        binary,
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *(
            "--disable-sync",
            "--disable-default-apps",
            "--disable-extensions",
            "--force-device-scale-factor=1",
        ),
        f"--user-data-dir={cwd / secrets.token_hex(4)}",
        *arguments,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return out.decode()


def requests_of_pages(net_log: str) -> list[str]:
    """Addresses that pages from this machine have asked for; not those of the browser's own services, of
    which one asks on behalf of a page: whether its fields can be filled in."""
    asked = []
    for line in net_log.splitlines():
        if '"network_isolation_key":"http://127.0.0.1 ' in line:
            params = json.loads(line.rstrip().rstrip(","))["params"]
            asked += [params["url"]] if "url" in params else []
    return [each for each in asked if not each.startswith("https://content-autofill.googleapis.com/")]


@pytest.mark.timeout(240)
async def test_in_a_real_browser_on_a_small_phone(
    groups: Running,
    pages: Pages,
    members: Desk,
    ports: Ports,
    tmp_path: Path,
) -> None:
    group_id, ids = await a_group(groups, 6)
    await ok(groups, "PUT", f"/v1/groups/{group_id}/admins/{ids[0]}")
    await set_link(groups, group_id)
    await upload(groups, group_id, ids[:4])
    await groups.publish(MemberLeft(member_id=ids[3], unit=UNIT), groups.envelope(request(ids[2]), 9))

    async def to_remove() -> bool:
        tasks = (await ok(groups, "GET", f"/v1/groups/{group_id}/tasks"))["items"]
        return len(tasks) == 2

    await groups.until(to_remove)
    path = await pages.issue(group_id)
    async with serving(groups.app, ports.take()) as url:
        log = tmp_path / "net.json"
        page = await browse(f"--log-net-log={log}", "--dump-dom", f"{url}{path}", cwd=tmp_path)
        assert "समूह से हटाएँ" in page
        asked = requests_of_pages(log.read_text())
        assert f"{url}{path}" in asked
        assert [each for each in asked if not each.startswith(f"{url}/")] == []
        for lang in ("hi", "en"):
            shot = tmp_path / f"{lang}.png"
            await browse(
                f"--screenshot={shot}", "--window-size=360,1480", f"{url}{path}?lang={lang}", cwd=tmp_path
            )
            assert shot.read_bytes()[:4] == b"\x89PNG"
            save(shot, IMAGES / f"admin-page-{lang}.png")


def save(shot: Path, to: Path) -> None:
    """Only when asked to (`SANGATHAN_IMAGES=1`): the picture in the docs does not change with every run."""
    if os.environ.get("SANGATHAN_IMAGES"):
        to.parent.mkdir(exist_ok=True)
        shutil.copyfile(shot, to)
