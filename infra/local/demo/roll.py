"""A roll that somebody typed: members in a CSV, with the mistakes that such files have, and their import."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from infra.local.demo.api import Api
from infra.local.demo.people import NOTICE, Person
from infra.local.errors import LocalError
from services.members.imports.command import CommandError, ImportCommand
from services.shared.operations.progress import Meter

HEADER = ("नाम", "Mobile No.", "Unit Code", "लिंग", "भाषा", "dob", "सहमति")
EVIDENCE = "sample-register-1"
TEXT = "हम आपको आपके बूथ के समूह का लिंक भेजेंगे। आप कभी भी मना कर सकते हैं।"
MISTAKES = 3
"""Rows of which nothing becomes a member: no name, a number that a spreadsheet rounded, a number twice."""


def write_roll(path: Path, people: Iterable[Person]) -> None:
    """The people as a semicolon-separated file, as a spreadsheet in Hindi saves it, and `MISTAKES`."""
    rows = [_cells(person) for person in people]
    _, phone, *rest = rows[0]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        out = csv.writer(file, delimiter=";")
        out.writerow(HEADER)
        out.writerows(rows)
        out.writerows((["", "7999999999", *rest], ["आशा", "9.87654E+09", *rest], ["आशा", phone, *rest]))


def _cells(person: Person) -> list[Any]:
    phone = str(person["phone"]).removeprefix("+91")
    return [
        *(person["name"], f"0{phone}", person["unit"], person["gender"], person["language"]),
        *(f"1/7/{person['birth_year']}", "हाँ" if person["consents"] else "नहीं"),
    ]


def _yes(_: str) -> bool:
    return True


async def import_roll(api: Api, url: str, token: str, file: Path, console: Console) -> int:
    """Import the file by the service's own command; how many of its people are members afterwards.

    :raises LocalError: members refuses the notice or the file
    """
    answer = await api.send("PUT", "members", f"/v1/notices/{NOTICE}/hi", json={"text": TEXT})
    if answer.status_code not in (200, 201):
        raise LocalError(f"members answered {answer.status_code} to the notice: {answer.text[:300]}")
    query = {
        "announce": "welcome",
        "consents": "welcome:whatsapp",
        "notice": NOTICE,
        "evidence": EVIDENCE,
    }
    command = ImportCommand(url, token, console, partial(Meter, console))
    try:
        await asyncio.to_thread(command.run, file, query, only_plan=False, agreed=_yes)
    except CommandError as error:
        raise LocalError(f"the import: {error}") from None
    [latest, *_] = (await api.get("members", "/v1/imports", limit=1))["items"]
    applied = latest["applied"]
    return int(applied["created"] + applied["updated"] + latest["plan"]["unchanged"])
