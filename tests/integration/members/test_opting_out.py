"""Messages that a person has stopped elsewhere: their consents end here, in the ledger and for all others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from services.shared.contracts.notifications import MemberOptedOut
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service
from tests.integration.members.test_consents import ledger

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Before any member of these tests consented."""
MESSAGES = ("welcome", "broadcast", "reminder")


def opted_out(member_id: str, *purposes: str, channel: str = "sms", via: str = "stop") -> MemberOptedOut:
    return MemberOptedOut(
        member_id=member_id, unit=UNIT, channel=channel, purposes=purposes or MESSAGES, via=via
    )


def given(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"purpose": p, "channel": c, "notice": "1", "language": "hi"} for p, c in pairs]


async def consents(service: Service, member_id: str) -> dict[tuple[str, str], tuple[str, str]]:
    row = await service.stored(member_id)
    return {(c["purpose"], c["channel"]): (c["state"], c["source"]) for c in row["consents"]}


async def test_the_consents_of_that_channel_end_for_the_purposes_that_were_stopped(service: Service) -> None:
    pairs = (("welcome", "sms"), ("broadcast", "sms"), ("membership", "sms"), ("welcome", "whatsapp"))
    member = await service.register(consents=given(*pairs))
    id_ = member["id"]
    event = service.app.envelope(opted_out(id_))
    again = service.app.envelope(opted_out(id_))
    stranger = service.app.envelope(opted_out(new_id()))
    of_before = replace(service.app.envelope(opted_out(id_, channel="whatsapp")), time=START)
    await service.app.publish(stranger, of_before, event, event, again)
    last = service.app.envelope(
        opted_out(id_, "welcome", "no_such_purpose", channel="whatsapp", via="preference")
    )
    await service.app.publish(service.app.envelope(opted_out(id_, channel="pigeon")), last)

    async def handled() -> bool:
        return (await consents(service, id_))["welcome", "whatsapp"][0] == "withdrawn"

    await service.app.until(handled)
    assert await consents(service, id_) == {
        ("membership", "sms"): ("given", "registration"),
        **{(purpose, "sms"): ("withdrawn", "stop") for purpose in MESSAGES},
        ("welcome", "whatsapp"): ("withdrawn", "preference"),
        ("broadcast", "whatsapp"): ("withdrawn", "stop"),
        ("reminder", "whatsapp"): ("withdrawn", "stop"),
    }
    told = [e.data for e in await service.log() if e.type == "member.consent_changed" and e.subject == id_]
    changes = [(e.purpose, e.channel, e.state, e.channels) for e in told]  # type: ignore[attr-defined]
    assert [each for each in changes if each[1] == "sms" or each[0] == "welcome"] == [
        ("welcome", "sms", "withdrawn", ("whatsapp",)),
        ("broadcast", "sms", "withdrawn", ("whatsapp",)),
        ("reminder", "sms", "withdrawn", ("whatsapp",)),
        ("welcome", "whatsapp", "withdrawn", ()),
    ]
    told_of = [e for e in (await ledger(service, id_))["items"] if e["state"] == "withdrawn"]
    entries = [e for e in told_of if e["channel"] == "sms" or e["purpose"] == "welcome"]
    assert [(e["purpose"], e["source"], e["actor"], e["evidence"]) for e in entries] == [
        *((purpose, "stop", "notifications", event.id) for purpose in MESSAGES),
        ("welcome", "preference", "notifications", last.id),
    ]
    assert not await service.db["dead_letters"].count_documents({})


async def test_it_ends_in_every_record_of_the_person(service: Service) -> None:
    one = await service.register(consents=given(("welcome", "sms")))
    other = await service.register(name="Asha Devi", consents=given(("welcome", "sms")))
    headers = service.app.auth("members:write members:read contacts:read")
    path = f"/v1/members/{one['id']}/merge"
    merged = await service.http.post(path, json={"other": other["id"]}, headers=headers)
    assert merged.status_code == 200, merged.text
    await service.app.publish(opted_out(other["id"]))

    async def both() -> bool:
        states = [(await consents(service, each["id"]))["welcome", "sms"][0] for each in (one, other)]
        return states == ["withdrawn", "withdrawn"]

    await service.app.until(both)
