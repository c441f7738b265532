"""The demo's redrawing: two booths become one, as before an election: compared, shown and applied."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from infra.local.demo.api import Api
from infra.local.demo.people import Person
from infra.local.errors import LocalError

WITHIN_SECONDS: Final = 60.0
COLUMNS: Final = ("code", "level", "name_en", "name_hi", "women_target", "predecessor")
PATH: Final = "/v1/units/comparisons"


@dataclass(frozen=True)
class Redrawn:
    """Two units that became one. `members` and `groups` are those that the comparison said would follow;
    `followed` is how many members did, `seconds` until then. `messages` were sent or waited before,
    `messages_after` once nothing moved any more."""

    old: tuple[str, str]
    new: str
    members: int
    groups: int
    followed: int
    seconds: float
    messages: int
    messages_after: int = 0

    @property
    def balances(self) -> bool:
        return self.followed == self.members and self.messages_after == self.messages

    @property
    def shown(self) -> Iterator[str]:
        yield (
            f"a small redrawing: {' and '.join(self.old)} become {self.new}; by the comparison "
            f"{self.members} members and {self.groups} groups follow"
        )
        again = self.messages_after - self.messages
        yield (
            f"applied: {self.followed} members followed in {self.seconds:.1f} s with their seats and links; "
            f"{again or 'nobody was'} welcomed again ({'balances' if self.balances else 'DOES NOT BALANCE'})"
        )


async def redraw(api: Api, settle: Callable[[], Awaitable[bool]]) -> Redrawn | None:
    """Merge two units below one that have members and no units below; None if there are no two.

    :raises LocalError: a service refuses, or it takes too long
    """
    groups = [group async for group in api.pages("groups", "/v1/groups", kind="general")]
    found = _neighbours(groups)
    if found is None:
        return None
    parent, old = found
    rows = [unit async for unit in api.pages("groups", "/v1/units", unit=parent)]
    if any(unit["code"].startswith(tuple(f"{code}-" for code in old)) for unit in rows):
        return None
    messages, new = await _messages(api), await _free_code(api, parent)
    answer = await api.send(
        "POST",
        "groups",
        f"{PATH}?unit={parent}",
        content=_wanted(rows, old, new).encode(),
        headers={"Content-Type": "text/csv"},
    )
    comparison = await _job(api, _ok(answer)["id"])
    counts = (await api.get("groups", f"{PATH}/{comparison['id']}"))["comparison"]["counts"]
    began = time.perf_counter()
    answer = await api.send("POST", "groups", f"{PATH}/{comparison['id']}/apply")
    await _job(api, _ok(answer)["id"])
    followed = await _followed(api, new, counts["members"])
    seconds = time.perf_counter() - began
    redrawn = Redrawn(old, new, counts["members"], counts["groups"], followed, seconds, messages)
    await settle()
    return replace(redrawn, messages_after=await _messages(api))


async def successors(api: Api) -> dict[str, str]:
    """Find the units that an earlier run on the same data has redrawn."""
    retired = [unit async for unit in api.pages("groups", "/v1/units", retired="true")]
    now = {unit["code"]: unit["successors"][0] for unit in retired if unit["successors"]}
    return {code: _last(unit, now) for code, unit in now.items()}


def without(tree: str, gone: Mapping[str, str]) -> str:
    """The tree's CSV without the rows of units that are gone."""
    rows = csv.DictReader(io.StringIO(tree, newline=""))
    out = io.StringIO()
    writer = csv.DictWriter(out, rows.fieldnames or (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in rows if row["code"] not in gone)
    return out.getvalue()


def resettled(crowd: Iterable[Person], gone: Mapping[str, str]) -> Iterator[Person]:
    """The people, where the unit of some is gone in the one that stands for it."""
    for person in crowd:
        yield {**person, "unit": gone.get(person["unit"], person["unit"])}


def _last(unit: str, now: Mapping[str, str]) -> str:
    while unit in now:
        unit = now[unit]
    return unit


def _neighbours(groups: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[str, str]] | None:
    """The two units with the most members that are below one, and are as deep as any."""
    taken: dict[str, int] = {}
    for group in groups:
        taken[group["unit"]] = taken.get(group["unit"], 0) + group["members"]
    deepest = max((unit.count("-") for unit in taken), default=0)
    below: dict[str, list[str]] = {}
    for unit in sorted(taken, key=lambda unit: -taken[unit]):
        if deepest and unit.count("-") == deepest and taken[unit]:
            below.setdefault(unit.rpartition("-")[0], []).append(unit)
    pairs = [(taken[a] + taken[b], parent, (a, b)) for parent, (a, b, *_) in _several(below)]
    return max(pairs)[1:] if pairs else None


def _several(below: Mapping[str, list[str]]) -> Iterator[tuple[str, list[str]]]:
    return ((parent, units) for parent, units in below.items() if len(units) > 1)


async def _free_code(api: Api, parent: str) -> str:
    """A code that no unit has or has had."""
    number = 1
    while (await api.send("GET", "groups", f"/v1/units/{parent}-R{number}")).status_code != 404:
        number += 1
    return f"{parent}-R{number}"


def _wanted(rows: Sequence[Mapping[str, Any]], old: tuple[str, str], new: str) -> str:
    """The units below the parent as they are to be."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    first = next(unit for unit in rows if unit["code"] == old[0])
    for unit in [*(unit for unit in rows if unit["code"] not in old), {**first, "code": new}]:
        target = "" if unit["women_target"] is None else unit["women_target"]
        names = unit["name"]["en"], unit["name"]["hi"]
        predecessors = " ".join(old) if unit["code"] == new else ""
        writer.writerow([unit["code"], unit["level"], *names, target, predecessors])
    return out.getvalue()


async def _followed(api: Api, unit: str, members: int) -> int:
    """How many members are in the unit, once those are or the time is over."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        found = [member async for member in api.pages("members", "/v1/members", unit=unit, status="active")]
        if len(found) >= members or time.monotonic() > deadline:
            return len(found)
        await asyncio.sleep(0.1)


async def _job(api: Api, id_: str) -> Any:
    deadline = time.monotonic() + WITHIN_SECONDS
    while (job := await api.get("groups", f"/v1/jobs/{id_}"))["state"] != "succeeded":
        if job["state"] not in ("waiting", "running") or time.monotonic() > deadline:
            raise LocalError(f"the redrawing is {job['state']}: {job['reason']}")
        await asyncio.sleep(0.1)
    return job


async def _messages(api: Api) -> int:
    return len([note["id"] async for note in api.pages("notifications", "/v1/notifications")])


def _ok(answer: Any) -> Any:
    if answer.status_code >= 300:
        raise LocalError(f"groups answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()
