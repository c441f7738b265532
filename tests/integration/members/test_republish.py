"""Members states again what it holds: every attribute that is in the events, and nothing that is personal."""

from __future__ import annotations

from services.members.recovery.snapshots import SOURCES
from services.shared.contracts.members import MemberSnapshot
from services.shared.messaging import decode
from tests.fixtures.rebuilding import quiet, republish, the_log
from tests.integration.members.conftest import TOPIC, UNIT, Service

CONSENT = {"purpose": "welcome", "notice": "2026-01", "language": "hi"}


async def test_the_log_learns_how_everyone_is_and_nobodys_name(service: Service) -> None:
    people = [
        await service.register(name="Suneeta Kumari", phone="+919876500001", email="suneeta@example.org"),
        await service.register(
            name="आशा देवी",
            phone="+919876500002",
            platforms=[{"platform": "facebook", "handle": "asha.devi.77"}],
            consents=[{**CONSENT, "channel": c} for c in ("sms", "whatsapp", "email")],
        ),
        await service.register(name="Ravi Ranjan", phone="+919876500003"),
    ]
    moved, _, gone = (person["id"] for person in people)
    move = {"unit": "BR-GAYA"}
    answer = await service.http.post(f"/v1/members/{moved}/move", json=move)
    assert answer.status_code == 200, answer.text
    assert (await service.http.delete(f"/v1/members/{gone}")).status_code in (200, 204)
    consents = [{**CONSENT, "channel": "sms"}]
    merged = (await service.register(name="Asha D", phone="+919876500004", consents=consents))["id"]
    answer = await service.http.post(f"/v1/members/{moved}/merge", json={"other": merged})
    assert answer.status_code == 200, answer.text
    settings = service.app.runtime.settings
    assert await republish(settings, SOURCES, batch=2) == {"member.snapshot": 4}
    await service.app.until(lambda: quiet(service.app.runtime))

    log = await the_log(settings, [TOPIC])
    told = [e for e in map(decode, log) if isinstance(e.data, MemberSnapshot)]
    assert {e.subject: e.sequence for e in told} == {
        row["_id"]: row["version"] async for row in service.db["members"].find({})
    }
    by_id = {e.subject: e.data for e in told}
    assert isinstance(by_id[moved], MemberSnapshot)
    said = {id_: (d.unit, d.status, d.channels, d.platforms) for id_, d in by_id.items()}  # type: ignore[attr-defined]
    assert said == {
        moved: ("BR-GAYA", "active", (), ()),
        merged: (UNIT, "left", (), ()),
        people[1]["id"]: (UNIT, "active", ("whatsapp", "sms", "email"), ("facebook",)),
        gone: (UNIT, "left", (), ()),
    }
    assert by_id[merged].merged_into == moved  # type: ignore[attr-defined]
    raw = b"\n".join(part for r in log for part in (r.key or b"", r.value or b"", *(v for _, v in r.headers)))
    for secret in ("Suneeta", "आशा", "Ravi", "98765", "example.org", "asha.devi"):
        assert secret.encode() not in raw
    assert b"member.snapshot" in raw
