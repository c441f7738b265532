"""Rows with several numbers: whose they are, and that none of them brings anybody back."""

from __future__ import annotations

import csv
import io
from typing import Any

from services.shared.database import Document
from tests.integration.members.conftest import Service
from tests.integration.members.importing import IMPORTER, a_phone, applied, outcomes, planned, refused
from tests.integration.members.test_import_consents import CONSENTS, register_notice


def a_file(*rows: tuple[str, str]) -> str:
    """A CSV of names and cells of phones."""
    text = io.StringIO()
    csv.writer(text).writerows([("name", "phone"), *rows])
    return text.getvalue()


async def gone(service: Service) -> dict[str, Document]:
    """Somebody who withdrew a consent and left, one who was merged, and one whose data are sealed; by the
    reason for which a row with their number is refused."""
    given = {"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}
    left = await service.register(name="Left", consents=[given])
    assert (await service.http.delete(f"/v1/members/{left['id']}/consents/welcome/sms")).status_code == 204
    await service.http.delete(f"/v1/members/{left['id']}")
    survivor, merged = await service.register(name="Stays"), await service.register(name="Merged")
    answer = await service.http.post(f"/v1/members/{survivor['id']}/merge", json={"other": merged["id"]})
    assert answer.status_code == 200, answer.text
    erased = await service.register(name="Erased")
    stored = await service.stored(erased["id"])
    await service.db["erasure_seals"].insert_one(
        {"_id": "seal", "phone_index": stored["phone_index"], "sealed": b""}
    )
    await service.db["members"].delete_one({"_id": erased["id"]})
    return {"has_left": left, "merged": merged, "erased": erased}


async def test_no_number_of_a_cell_brings_anybody_back(service: Service) -> None:
    await register_notice(service)
    people = await gone(service)
    before = await service.db["members"].count_documents({})
    cells = ("{new} / {old}", "{old}, {new}", "{new} {new2} {old}")
    rows = [
        (reason, cell.format(new=a_phone(), new2=a_phone(), old=member["phone"]))
        for reason, member in people.items()
        for cell in cells
    ]
    for n, row in enumerate(rows):
        plan = await planned(
            service,
            a_file(row),
            query=f"{CONSENTS}&announce=welcome",
            **service.app.auth(f"{IMPORTER} consents:write"),
        )
        assert (plan["plan"]["reasons"], plan["plan"]["welcomed"]) == ({row[0]: 1}, 0), n
    assert await service.db["members"].count_documents({}) == before


async def test_a_row_is_of_whoever_has_one_of_its_numbers(service: Service) -> None:
    asha, ram = await service.register(name="Asha"), await service.register(name="Ram")
    plan = await planned(
        service,
        a_file(
            ("Asha Devi", f"{a_phone()} ; {asha['phone']}"),
            ("Ram", f"{a_phone()}, {a_phone()} / {ram['phone']}"),
        ),
    )
    assert outcomes(plan) == {"changed": 1, "unchanged": 1}
    assert plan["plan"]["fields"] == {"name": 1}, "the member's own number stays"
    await applied(service, plan["id"])
    found = (await service.http.get(f"/v1/members/{asha['id']}")).json()
    assert (found["name"], found["phone"]) == ("Asha Devi", asha["phone"])
    assert await service.db["members"].count_documents({}) == 2


async def test_numbers_of_two_members_are_refused_by_name(service: Service) -> None:
    ashas = [(await service.register(name="Asha"))["phone"] for _ in range(4)]
    ram = await service.register(name="Ram")
    people = await gone(service)
    [stays] = (await service.http.get("/v1/members?q=Stays")).json()["items"]
    rows = [
        ("Asha", f"{ashas[0]} / {ram['phone']}"),
        ("Asha", f"{ashas[1]} / {people['has_left']['phone']}"),
        ("Asha", f"{ashas[2]} / {people['merged']['phone']}"),
        ("Asha", f"{people['erased']['phone']} / {ashas[3]}"),
    ]
    plan = await planned(service, a_file(*rows))
    reasons = {row["line"]: row["error"] for row in await refused(service, plan["id"])}
    assert reasons == {**dict.fromkeys(("2", "3", "4"), "numbers_of_two_members"), "5": "erased"}
    own = await planned(service, a_file(("Stays", f"{people['merged']['phone']} / {stays['phone']}")))
    assert outcomes(own) == {"unchanged": 1}, "who stands for a merged member may have that one's number"


async def test_any_number_of_an_earlier_row_makes_a_row_the_same(service: Service) -> None:
    x, y, z = a_phone(), a_phone(), a_phone()
    rows = [("A", f"{x} ; {y}"), ("A", f"{y} ; {x}"), ("B", f"{z} / {y}"), ("C", y), ("D", z)]
    plan = await planned(service, a_file(*rows))
    assert outcomes(plan) == {"new": 2, "duplicate": 3}
    assert [row["error"] for row in await refused(service, plan["id"])] == ["same_as_line_2"] * 3


async def test_somebody_who_takes_or_gives_up_any_number_meanwhile_sets_the_row_aside(
    service: Service,
) -> None:
    second = [a_phone() for _ in range(3)]
    rows = [(f"P{n}", f"{a_phone()}, {phone}") for n, phone in enumerate(second)]
    plan = await planned(service, a_file(*rows))
    assert outcomes(plan) == {"new": 3}
    await service.register(name="Own", phone=second[0])
    left: Any = await service.register(name="Gone", phone=second[1])
    await service.http.delete(f"/v1/members/{left['id']}")
    done = await applied(service, plan["id"])
    assert done["applied"] == {"created": 1, "updated": 0, "set_aside": 2}
    shown = await refused(service, plan["id"])
    assert [second[n] in row["phone"] for n, row in enumerate(shown)] == [True, True]
