"""Every route of the four running services, and who may ask it: by scope and by unit.

A route without a line here fails, so nobody adds one without saying whom it belongs to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from infra.local.stack import LocalStack
from services.shared.operations.cli.app import app as ops
from tests.journeys.test_front_door import LISTINGS

UNIT: Final = "QA-ASK"
ELSEWHERE: Final = "QA-ELSE"
SCOPES: Final = frozenset(
    f"{service}:{right}" for service in (*LISTINGS, "ops") for right in ("read", "write")
) | {
    "contacts:read",
    "members:match",
    "consents:write",
    "notices:write",
    "erasure:write",
    "removals:write",
    "invites:read",
    "reads:read",
    "dossiers:read",
    "holdings:read",
    "incidents:read",
    "incidents:write",
    "grievances:read",
    "grievances:write",
}


@dataclass(frozen=True)
class Route:
    """`scopes`: those that it needs. `everywhere`: only for a token of all units. `of_no_unit`: the same for
    every unit. `public`: for whoever proves themselves otherwise. `send`: a valid request."""

    scopes: str
    everywhere: bool = False
    path: str | None = None
    send: Callable[[], dict[str, Any]] = dict
    of_no_unit: bool = False
    public: bool = False


def query(path: str, scopes: str) -> Route:
    return Route(scopes, path=path)


def json(scopes: str, body: object, *, everywhere: bool = False, path: str | None = None) -> Route:
    return Route(scopes, everywhere, path, lambda: {"json": body})


READ, WRITE = Route("ops:read", everywhere=True), Route("ops:write", everywhere=True)
CHALLENGE = Route(
    "",
    public=True,
    path="/webhooks/whatsapp?hub.mode=subscribe&hub.verify_token=guessed&hub.challenge=1",
)
CALLBACK = Route("", public=True, send=lambda: {"content": b"{}"})
STATUS = {"GET /v1/ops/status": READ}
RESEND = {"reason": "refused", "unit": UNIT, "dry_run": True}
POLICIES: dict[str, Any] = {
    "zone": "Asia/Kolkata",
    "certificates": True,
    "rates": [],
    **{
        name: []
        for name in ("quiet_hours", "silence_windows", "election_matter", "frequency_caps", "budgets")
    },
}
SUBJECTS = {"subjects": ["00000000-0000-7000-8000-000000000000"], "dry_run": True}
OF_OWNERS = {"POST /v1/ops/snapshots": json("ops:write", SUBJECTS, everywhere=True)}
NO_SUCH_TYPE = "?type=no.such.type"
REPAIRS: Final = "POST /v1/ops/repairs"
"""The route of services that keep what they learnt from others; members keeps nothing so."""
OF_CONSUMERS = {
    "GET /v1/ops/dead-letters": READ,
    "GET /v1/ops/dead-letters/summary": READ,
    "GET /v1/ops/dead-letters/{id}": READ,
    "POST /v1/ops/dead-letters/replay": Route(
        "ops:write", everywhere=True, path=f"/v1/ops/dead-letters/replay{NO_SUCH_TYPE}"
    ),
    "POST /v1/ops/dead-letters/discard": Route(
        "ops:write",
        everywhere=True,
        path=f"/v1/ops/dead-letters/discard{NO_SUCH_TYPE}",
        send=lambda: {"json": {"reason": "a test of ours"}},
    ),
    "POST /v1/ops/dead-letters/{id}/replay": WRITE,
    "POST /v1/ops/dead-letters/{id}/discard": json("ops:write", {"reason": "a test"}, everywhere=True),
    "GET /v1/ops/fuse": READ,
    "POST /v1/ops/fuse/reset": WRITE,
    REPAIRS: json("ops:write", SUBJECTS, everywhere=True),
}


def jobs(service: str) -> dict[str, Route]:
    """A caller sees the jobs whose requester's unit is within its own."""
    both = Route(f"{service}:write {service}:read")
    changes = {f"POST /v1/jobs/{{id}}/{what}": both for what in ("pause", "resume", "cancel")}
    reads = {"GET /v1/jobs": Route(f"{service}:read"), "GET /v1/jobs/{id}": Route(f"{service}:read")}
    return reads | changes


PERSON = {"name": "Asha", "phone": "+919876512345", "unit": UNIT}
CSV = f"code,level,name_en,name_hi\n{UNIT}-B9,block,B,B\n".encode()
TREE = f"code,level,name_en,name_hi\n{UNIT},district,Ask,Ask\n{UNIT}-B9,block,B,B\n".encode()
CENTRAL: Final = ("PUT /v1/notices/", "PUT /v1/units/levels")
PEOPLE = b"name,phone\nAsha,9876512346\n"
NAMES = {"en": "Ask", "hi": "Ask"}
CONSENT = "/v1/members/{id}/consents/broadcast/sms"
EVIDENCE = {"notice": "ask", "language": "hi", "evidence": "form 1"}
NOTICE = "/v1/notices/ask/hi"
TEXT = {"text": "We write to you."}
APPROVAL = {"version": 0, "state": "draft", "name": "code", "category": "authentication", "language": "hi"}
ROLE = f"/v1/members/{{id}}/roles/youth?unit={UNIT}"
INCIDENT = {"unit": UNIT, "detected_at": "2026-11-01T00:00:00Z", "title": "Lost", "what": "A list was lost."}
GRIEVANCE = {"unit": UNIT, "kind": "other", "text": "Nobody answers."}
POLICY = {
    "levels": ["state", "district", "block", "booth"],
    "kinds": [{"kind": "general", "capacity": 1024}],
    "rules": [{"id": "general", "kind": "general"}],
}
TABLE: Final[dict[str, dict[str, Route]]] = {
    "members": {
        "POST /v1/members": json("members:write", PERSON),
        "GET /v1/members": query(f"/v1/members?unit={UNIT}", "members:read"),
        "GET /v1/members/export": query(f"/v1/members/export?unit={UNIT}", "members:read contacts:read"),
        "GET /v1/members/{id}": Route("members:read"),
        "POST /v1/members/resolve": json("contacts:read", {"ids": ["{id}"]}),
        "POST /v1/members/match": json("members:match", {"unit": UNIT, "phones": [PERSON["phone"]]}),
        "PATCH /v1/members/{id}": json("members:write members:read", {}),
        "POST /v1/members/{id}/move": json("members:write members:read", {"unit": UNIT}),
        "PUT /v1/members/{id}/consents/{purpose}/{channel}": json(
            "consents:write members:read", EVIDENCE, path=CONSENT
        ),
        "DELETE /v1/members/{id}/consents/{purpose}/{channel}": query(CONSENT, "members:write"),
        "GET /v1/members/{id}/consents": Route("members:read"),
        "GET /v1/members/{id}/consents/proof": Route("members:read"),
        "GET /v1/notices/{version}/{language}": Route("members:read", path=NOTICE, of_no_unit=True),
        "PUT /v1/notices/{version}/{language}": json("notices:write", TEXT, everywhere=True, path=NOTICE),
        "PUT /v1/members/{id}/roles/{role}": json("members:write members:read", {}, path=ROLE),
        "DELETE /v1/members/{id}/roles/{role}": query(ROLE, "members:write"),
        "GET /v1/members/{id}/roles": Route("members:read"),
        "GET /v1/units/{code}/officers": Route("members:read"),
        "GET /v1/redrawings/unmapped": query(f"/v1/redrawings/unmapped?unit={UNIT}", "members:read"),
        "POST /v1/redrawings/members": json(
            "members:write", {"items": [{"member_id": "01900000-0000-7000-8000-000000000000", "unit": UNIT}]}
        ),
        "GET /v1/members/{id}/dossier": Route("dossiers:read contacts:read"),
        "GET /v1/reads": query("/v1/reads?member={id}", "reads:read"),
        "POST /v1/incidents": json("incidents:write incidents:read", INCIDENT),
        "GET /v1/incidents": query(f"/v1/incidents?unit={UNIT}", "incidents:read"),
        "GET /v1/incidents/{id}": Route("incidents:read"),
        "PATCH /v1/incidents/{id}": json("incidents:write incidents:read", {}),
        "PUT /v1/incidents/{id}/affected": json("incidents:write incidents:read", {"by": "members"}),
        "GET /v1/incidents/{id}/affected": Route("incidents:read"),
        "GET /v1/incidents/{id}/notices": Route("incidents:read"),
        "POST /v1/grievances": json("grievances:write grievances:read", GRIEVANCE),
        "GET /v1/grievances": query(f"/v1/grievances?unit={UNIT}", "grievances:read"),
        "GET /v1/grievances/{id}": Route("grievances:read"),
        "PATCH /v1/grievances/{id}": json("grievances:write grievances:read", {}),
        "DELETE /v1/members/{id}": Route("members:write"),
        "POST /v1/imports": Route(
            "members:write contacts:read",
            path=f"/v1/imports?unit={UNIT}",
            send=lambda: {"content": PEOPLE, "headers": {"content-type": "text/csv"}},
        ),
        "GET /v1/imports": Route("members:read"),
        "GET /v1/imports/{id}": Route("members:read"),
        "GET /v1/imports/{id}/rows": Route("members:read contacts:read"),
        "GET /v1/imports/{id}/errors": Route("members:write contacts:read"),
        "POST /v1/imports/{id}/apply": Route("members:write contacts:read"),
        "GET /v1/duplicates": query(f"/v1/duplicates?unit={UNIT}", "members:read"),
        "POST /v1/duplicates/{id}/dismiss": Route("members:write members:read"),
        "POST /v1/members/{id}/merge": json(
            "members:write members:read contacts:read",
            {"other": "{other}"},
            path="/v1/members/{id}/merge?dry_run=true",
        ),
        "POST /v1/merges/{id}/undo": Route("members:write members:read"),
        "POST /v1/members/{id}/erasure": query("/v1/members/{erased}/erasure", "erasure:write"),
        "GET /v1/erasures": query(f"/v1/erasures?unit={UNIT}", "members:read"),
        "GET /v1/erasures/{id}": Route("members:read"),
        "GET /v1/erasures/{id}/removals": Route("removals:write contacts:read"),
        "POST /v1/erasures/{id}/removals/{group_id}": Route("removals:write"),
        **jobs("members"),
        **STATUS,
        **OF_OWNERS,
        **{line: route for line, route in OF_CONSUMERS.items() if line != REPAIRS},
    },
    "groups": {
        "PUT /v1/units/{code}": json("groups:write", {"level": "district", "name": NAMES}),
        "GET /v1/units": query(f"/v1/units?unit={UNIT}&q=ask", "groups:read"),
        "GET /v1/units/levels": Route("groups:read", of_no_unit=True),
        "PUT /v1/units/levels": json(
            "groups:write", {"levels": ["state", "district", "block", "booth"]}, everywhere=True
        ),
        "POST /v1/units/comparisons": Route(
            "groups:write",
            path=f"/v1/units/comparisons?unit={UNIT}",
            send=lambda: {"content": TREE, "headers": {"content-type": "text/csv"}},
        ),
        "GET /v1/units/comparisons": Route("groups:read"),
        "GET /v1/units/comparisons/{id}": Route("groups:read"),
        "POST /v1/units/comparisons/{id}/apply": Route("groups:write"),
        "GET /v1/units/{code}": Route("groups:read"),
        "GET /v1/units/{code}/children": Route("groups:read"),
        "POST /v1/units/imports": Route(
            "groups:write", send=lambda: {"content": CSV, "headers": {"content-type": "text/csv"}}
        ),
        "GET /v1/groups": query(f"/v1/groups?unit={UNIT}", "groups:read"),
        "POST /v1/groups/resolve": json("groups:read", {"ids": ["{id}"]}),
        "GET /v1/groups/{id}": Route("groups:read"),
        "PATCH /v1/groups/{id}": json("groups:write groups:read", {}),
        "GET /v1/groups/{id}/members": Route("groups:read"),
        "POST /v1/groups/openings": json("groups:write groups:read", {"unit": UNIT, "level": "booth"}),
        "POST /v1/groups/{id}/split": json("groups:write groups:read", {"capacity": 1}),
        "POST /v1/groups/{id}/merge": Route("groups:write groups:read"),
        "POST /v1/groups/{id}/reopen": Route("groups:write groups:read"),
        "POST /v1/groups/{id}/archive": Route("groups:write groups:read"),
        "GET /v1/placement-policy": Route("groups:read", of_no_unit=True),
        "PUT /v1/placement-policy": Route(
            "groups:write groups:read",
            everywhere=True,
            send=lambda: {"json": POLICY, "headers": {"if-match": '"999"'}},
        ),
        "POST /v1/placement-policy/preview": json("groups:write groups:read", POLICY, everywhere=True),
        "GET /v1/placement-policy/previews/{id}": Route("groups:read", everywhere=True),
        "GET /v1/placement-policy/previews/{id}/changes": Route("groups:read", everywhere=True),
        "POST /v1/placement-policy/apply": Route("groups:write groups:read", everywhere=True),
        "POST /v1/placement-policy/audits": Route("groups:write groups:read", everywhere=True),
        "POST /v1/groups/{id}/roster": Route(
            "groups:write",
            path="/v1/groups/{id}/roster?complete=false",
            send=lambda: {"content": "+919876511111", "headers": {"content-type": "text/plain"}},
        ),
        "GET /v1/groups/{id}/drift": Route("groups:read"),
        "GET /v1/drift": query(f"/v1/drift?unit={UNIT}", "groups:read"),
        "GET /v1/groups/gaps": query(f"/v1/groups/gaps?unit={UNIT}", "groups:read"),
        "GET /v1/groups/{id}/admins": Route("groups:read"),
        "PUT /v1/groups/{id}/admins/{member_id}": Route("groups:write"),
        "DELETE /v1/groups/{id}/admins/{member_id}": Route("groups:write"),
        "GET /v1/groups/{id}/tasks": Route("groups:read"),
        "POST /v1/groups/{id}/pages": json("groups:write invites:read contacts:read", {}),
        "DELETE /v1/groups/{id}/pages": Route("groups:write"),
        "GET /v1/placements": query(f"/v1/placements?state=waiting_unit&unit={UNIT}", "groups:read"),
        "GET /v1/members/{id}/groups": Route("groups:read"),
        "GET /v1/members/{id}/holdings": Route("holdings:read"),
        **jobs("groups"),
        **STATUS,
        **OF_OWNERS,
        **OF_CONSUMERS,
    },
    "notifications": {
        "GET /v1/notifications": Route("notifications:read"),
        "GET /v1/notifications/summary": query(
            f"/v1/notifications/summary?unit={UNIT}", "notifications:read"
        ),
        "GET /v1/notifications/{id}": Route("notifications:read"),
        "POST /v1/notifications/{id}/resend": Route("notifications:write notifications:read"),
        "POST /v1/notifications/resends": json("notifications:write notifications:read", RESEND),
        "GET /v1/explain": query("/v1/explain?member={member_id}&purpose=welcome", "notifications:read"),
        "GET /v1/policies": Route("notifications:read", of_no_unit=True),
        "PUT /v1/policies": Route(
            "notifications:write notifications:read",
            everywhere=True,
            send=lambda: {"json": POLICIES, "headers": {"if-match": '"999"'}},
        ),
        "GET /v1/policies/versions": Route("notifications:read", everywhere=True),
        "GET /v1/members/{id}/holdings": Route("holdings:read"),
        "GET /v1/breakers": READ,
        "DELETE /v1/breakers/{id}": WRITE,
        "GET /v1/callbacks/buried": READ,
        "POST /v1/callbacks/{id}/apply": WRITE,
        "GET /v1/opt-outs/inferred": Route("notifications:read"),
        "DELETE /v1/opt-outs/{id}": Route("notifications:write"),
        "GET /v1/callers": Route("contacts:read", everywhere=True),
        "DELETE /v1/callers/{id}": Route("contacts:read notifications:write", everywhere=True),
        "GET /v1/templates": Route("notifications:read", of_no_unit=True),
        "GET /v1/templates/{name}/{language}": Route(
            "notifications:read", path="/v1/templates/code/hi", of_no_unit=True
        ),
        "PUT /v1/templates/{name}/{language}": Route(
            "notifications:write",
            everywhere=True,
            path="/v1/templates/asked/hi",
            send=lambda: {"json": TEXT, "headers": {"if-none-match": "*"}},
        ),
        "GET /v1/templates/{name}/{language}/versions": Route(
            "notifications:read", path="/v1/templates/code/hi/versions", of_no_unit=True
        ),
        "PUT /v1/templates/{name}/{language}/approvals/{channel}": json(
            "notifications:write", APPROVAL, everywhere=True, path="/v1/templates/code/hi/approvals/whatsapp"
        ),
        "POST /v1/templates/{name}/preview": Route(
            "notifications:read",
            path="/v1/templates/code/preview",
            send=lambda: {"json": {"language": "hi"}},
            of_no_unit=True,
        ),
        "POST /v1/templates/{name}/test": Route(
            "notifications:write",
            path="/v1/templates/code/test",
            send=lambda: {"json": {"member_id": "{member}", "channel": "whatsapp"}},
        ),
        "GET /unsubscribe/{token}": Route("", public=True),
        "POST /unsubscribe/{token}": CALLBACK,
        "GET /webhooks/whatsapp": CHALLENGE,
        "POST /webhooks/whatsapp": CALLBACK,
        "POST /webhooks/sms/{gateway}/{secret}": CALLBACK,
        "GET /webhooks/sms/{gateway}/{secret}": Route("", public=True),
        **jobs("notifications"),
        **STATUS,
        **OF_OWNERS,
        **OF_CONSUMERS,
    },
    "analytics": {
        "GET /v1/overview": query(f"/v1/overview?unit={UNIT}", "analytics:read"),
        "GET /v1/timeseries": query(f"/v1/timeseries?unit={UNIT}&metric=members.joined", "analytics:read"),
        "GET /v1/coverage": query(f"/v1/coverage?unit={UNIT}&level=block", "analytics:read"),
        "GET /v1/inclusion": query(f"/v1/inclusion?unit={UNIT}", "analytics:read"),
        "GET /v1/inclusion/series": query(f"/v1/inclusion/series?unit={UNIT}", "analytics:read"),
        "GET /v1/inclusion/next": query(f"/v1/inclusion/next?unit={UNIT}", "analytics:read"),
        "GET /v1/projections": READ,
        "POST /v1/projections/drift": json("ops:write", {"names": ["groups"]}, everywhere=True),
        "GET /v1/projections/drift": READ,
        "POST /v1/projections/rebuild": json("ops:write", {"names": ["units"]}, everywhere=True),
        "GET /v1/members/{id}/holdings": Route("holdings:read"),
        **jobs("analytics"),
        **STATUS,
        **OF_CONSUMERS,
    },
}
OF_MEMBERS: Final = ("/v1/members", "/v1/imports", "/v1/erasures")
ROUTES = [(service, line) for service, lines in TABLE.items() for line in lines]
DELETED_LAST = sorted(ROUTES, key=lambda each: each[1].startswith("DELETE"))


class Asking:
    """Calls routes of the table about one member, its group and its notification, all in `UNIT`."""

    def __init__(self, stack: LocalStack, ids: dict[str, str], job: str) -> None:
        self._stack = stack
        self._ids = ids
        self._job = job
        self._client = httpx2.Client(trust_env=False)

    def call(self, service: str, line: str, scopes: object, unit: str | None) -> httpx2.Response:
        method, template = line.split()
        route = TABLE[service][line]
        kind = template.split("/")[2]
        id_ = self._job if "/jobs/" in template else self._ids.get(kind, self._ids.get(service, ""))
        if "/ops/" in template:
            id_ = "sangathan.members:0:999999999"
        path = (route.path or template).replace("{id}", id_).replace("{code}", UNIT)
        path = path.replace("{erased}", self._ids["erased"]).replace("{group_id}", self._ids["groups"])
        path = path.replace("{member_id}", self._ids["members"])
        sent = route.send()
        if sent.get("json") == {"ids": ["{id}"]}:
            sent["json"] = {"ids": [id_]}
        if sent.get("json") == {"other": "{other}"}:
            sent["json"] = {"other": self._ids["other"]}
        if isinstance(sent.get("json"), dict) and sent["json"].get("member_id") == "{member}":
            sent["json"] = sent["json"] | {"member_id": self._ids["members"]}
        named = scopes if isinstance(scopes, str) else " ".join(sorted(scopes))  # type: ignore[call-overload]
        headers = {"authorization": f"Bearer {self._stack.mint(named, unit, sub='asker')}"}
        headers |= sent.pop("headers", {}) | ({"if-match": '"0"'} if method == "PATCH" else {})
        return self._client.request(method, self._stack.urls[service] + path, headers=headers, **sent)

    def close(self) -> None:
        self._client.close()


async def previewed(client: httpx2.AsyncClient, groups: str) -> str:
    answer = await client.post(f"{groups}/v1/placement-policy/preview", json=POLICY)
    assert answer.status_code in (200, 202), answer.text
    return str(answer.json()["id"])


async def a_comparison(client: httpx2.AsyncClient, groups: str) -> str:
    path = f"{groups}/v1/units/comparisons?unit={UNIT}"
    answer = await client.post(path, content=TREE, headers={"content-type": "text/csv"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asking(stack: LocalStack) -> AsyncIterator[Asking]:
    headers = {"authorization": f"Bearer {stack.token}"}
    async with httpx2.AsyncClient(trust_env=False, headers=headers, timeout=30) as client:

        async def until(service: str, path: str) -> dict[str, Any]:
            for _ in range(200):
                if items := (await client.get(stack.urls[service] + path)).json().get("items"):
                    return dict(items[0])
                await asyncio.sleep(0.05)
            raise AssertionError(f"nothing at {path}")

        async def state(made: str) -> object:
            return (await client.get(f"{stack.urls['members']}/v1/imports/{made}")).json()["state"]

        groups = stack.urls["groups"]
        for code, level in (("QA", "state"), (UNIT, "district"), (ELSEWHERE, "district")):
            body = {"level": level, "name": NAMES}
            assert (await client.put(f"{groups}/v1/units/{code}", json=body)).status_code in (200, 201)
        consent = {"purpose": "welcome", "channel": "whatsapp", "notice": "1", "language": "hi"}
        person = PERSON | {"phone": "+919876511111", "consents": [consent]}
        member = (await client.post(f"{stack.urls['members']}/v1/members", json=person)).json()["id"]
        alike = [PERSON | {"name": "Asha Devi", "phone": f"+91987652222{n}"} for n in range(3)]
        other, survivor, merged = [
            (await client.post(f"{stack.urls['members']}/v1/members", json=each)).json()["id"]
            for each in alike
        ]
        merge = await client.post(
            f"{stack.urls['members']}/v1/members/{survivor}/merge", json={"other": merged}
        )
        assert merge.status_code == 200, merge.text
        pair = await until("members", f"/v1/duplicates?unit={UNIT}")
        placed = await until("groups", f"/v1/members/{member}/groups")
        notification = await until("notifications", f"/v1/notifications?member={member}")
        await until("analytics", "/v1/coverage?unit=QA&level=district")
        rows = "".join(f"{UNIT}-B{n},block,B,B\n" for n in range(5001))
        own = {"authorization": f"Bearer {stack.mint('groups:write', UNIT)}", "content-type": "text/csv"}
        registrar = {"authorization": f"Bearer {stack.mint('notices:write', '*')}"}
        notice = await client.put(f"{stack.urls['members']}{NOTICE}", json=TEXT, headers=registrar)
        assert notice.status_code in (200, 201), notice.text
        job = await client.post(
            f"{groups}/v1/units/imports?dry_run=true",
            content=f"code,level,name_en,name_hi\n{rows}",
            headers=own,
        )
        assert job.status_code == 202, job.text
        own |= {"authorization": f"Bearer {stack.mint('members:write contacts:read', UNIT)}"}
        members = stack.urls["members"]
        ids: dict[str, str] = {}
        sent = await client.post(f"{members}/v1/imports?unit={UNIT}", content=PEOPLE, headers=own)
        assert sent.status_code == 202, sent.text
        made = sent.json()["id"]
        while await state(made) == "planning":  # noqa: ASYNC110 (it is planned by another process)
            await asyncio.sleep(0.05)
        erased = (await client.post(f"{members}/v1/members", json=PERSON | {"phone": "+919876511112"})).json()
        await until("groups", f"/v1/members/{erased['id']}/groups")
        eraser = {"authorization": f"Bearer {stack.mint('erasure:write', UNIT)}"}
        asked = await client.post(f"{members}/v1/members/{erased['id']}/erasure", headers=eraser)
        assert asked.status_code == 202, asked.text
        await until("members", "/v1/erasures?state=erased")
        for kind, wanted in (("incidents", INCIDENT), ("grievances", GRIEVANCE)):
            filed = await client.post(f"{members}/v1/{kind}", json=wanted)
            assert filed.status_code == 201, filed.text
            ids[kind] = filed.json()["id"]
        ids |= {
            "placement-policy": await previewed(client, groups),
            "erased": erased["id"],
            "erasures": asked.json()["id"],
            "members": member,
            "imports": made,
            "other": other,
            "merges": merge.json()["id"],
            "duplicates": pair["id"],
            "groups": placed["group_id"],
            "units": await a_comparison(client, groups),
            "notifications": notification["id"],
            "breakers": "0" * 32,
            "callbacks": "0" * 64,
            "opt-outs": "sms:" + "a" * 43,
        }
        asking = Asking(stack, ids, job.json()["id"])
        yield asking
        asking.close()


def nothing_told(answer: httpx2.Response) -> bool:
    """Whether the answer is the one for what does not exist, or a list without anything."""
    if answer.status_code == 200:
        return bool(answer.json().get("items") == [])
    return answer.status_code in (403, 404) or "outside your units" in answer.text


@pytest.mark.parametrize("service", TABLE)
async def test_every_route_has_its_line(stack: LocalStack, service: str) -> None:
    document = httpx2.get(f"{stack.urls[service]}/openapi.json", trust_env=False).json()
    there = {f"{method.upper()} {path}" for path, ways in document["paths"].items() for method in ways}
    assert {line for line in there if not line.startswith("HEAD ")} == TABLE[service].keys()
    secured = {
        f"{method.upper()} {path}": way.get("security")
        for path, ways in document["paths"].items()
        for method, way in ways.items()
    }
    assert {line for line, by in secured.items() if not by} == {
        line for line, route in TABLE[service].items() if route.public
    }


@pytest.mark.parametrize(("service", "line"), ROUTES)
async def test_a_route_asks_for_its_scopes(asking: Asking, service: str, line: str) -> None:
    for scope in TABLE[service][line].scopes.split():
        answer = asking.call(service, line, SCOPES - {scope}, "*")
        assert (answer.status_code, answer.json()["detail"]) == (403, f"the scope {scope} is required")


@pytest.mark.parametrize("unit", [None, ELSEWHERE, f"{UNIT}-B1", UNIT, "QA"])
async def test_global_operations_need_all_units(asking: Asking, unit: str | None) -> None:
    everywhere = [(service, line) for service, line in ROUTES if TABLE[service][line].everywhere]
    apart = (
        *("/v1/ops/", "/v1/projections", "PUT /v1/notices/", "PUT /v1/units/levels"),
        "PUT /v1/templates/",
        *(
            "PUT /v1/placement-policy",
            "/v1/placement-policy/",
            "/v1/callbacks/",
            "/v1/callers",
            "/v1/breakers",
        ),
        *("PUT /v1/policies", "/v1/policies/"),
    )
    central = [line for _, line in ROUTES if any(each in line for each in apart)]
    assert [line for _, line in everywhere] == central
    for service, line in everywhere:
        answer = asking.call(service, line, SCOPES, unit)
        assert (answer.status_code, "all units" in answer.text) == (403, True), (service, line)


def of_units(service: str, line: str) -> bool:
    route = TABLE[service][line]
    return not (route.everywhere or route.of_no_unit or route.public)


@pytest.mark.parametrize(("service", "line"), [each for each in ROUTES if of_units(*each)])
async def test_a_unit_sees_nothing_of_another(asking: Asking, service: str, line: str) -> None:
    for unit in (None, ELSEWHERE, f"{UNIT}-B1", "QA-AS", "QA-ASKED"):
        answer = asking.call(service, line, SCOPES, unit)
        assert nothing_told(answer), (unit, answer.status_code, answer.text)


@pytest.mark.parametrize(("service", "line"), DELETED_LAST)
@pytest.mark.parametrize("unit", [UNIT, "QA", "*"])
async def test_with_just_its_rights_a_route_answers(
    asking: Asking, service: str, line: str, unit: str
) -> None:
    """In the unit and from above it, so that the refusals are about the rights and not about the request."""
    route = TABLE[service][line]
    answer = asking.call(service, line, route.scopes, "*" if route.everywhere else unit)
    nobody = ("/ops/", "/breakers/", "/callbacks/", "/opt-outs/", "/callers/")
    exists = not any(each in line for each in nobody) and ("/jobs/" not in line or service == "groups")
    if route.public or ("{id}" in line and not exists):
        assert answer.status_code == 404
    else:
        assert answer.status_code in (200, 201, 202, 204, 409, 412), answer.text


async def test_a_revoked_token_is_refused_by_every_service(stack: LocalStack) -> None:
    lost, other = (stack.mint("ops:read", "*", sub=sub) for sub in ("lost-phone", "other"))

    def statuses(token: str) -> set[int]:
        headers = {"authorization": f"Bearer {token}"}
        urls = [f"{url}/v1/ops/status" for url in stack.urls.values()]
        return {httpx2.get(url, headers=headers, trust_env=False).status_code for url in urls}

    assert statuses(lost) == statuses(other) == {200}
    arguments = ["revoke", "--file", str(stack.keys.revoked), "--sub", "lost-phone"]
    assert CliRunner().invoke(ops, arguments).exit_code == 0
    await asyncio.sleep(1.1)
    assert statuses(lost) == {401}
    assert statuses(other) == {200}
