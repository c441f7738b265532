"""The demo from start to end: load the tree, let members join, wait until quiet, open the books."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.books import Books, Pace
from infra.local.demo.gateways import Simulators
from infra.local.demo.invites import InviteLinks
from infra.local.demo.latency import Watcher
from infra.local.demo.people import CHANNELS, MOST, SEVERAL_CHANNELS, Person, people
from infra.local.demo.quiet import QUIET_SECONDS, settle
from infra.local.demo.redrawing import Redrawn, redraw, resettled, successors, without
from infra.local.demo.report import report, where_next
from infra.local.demo.roll import import_roll, write_roll
from infra.local.demo.rosters import Shown, described, show_roster
from infra.local.demo.tree import SAMPLE, codes, read_tree
from infra.local.errors import LocalError
from infra.local.stack import LocalStack
from infra.local.status import watch

AT_ONCE = 64
WALKING_PACE = 40.0
"""Members a second while latency is measured: a rush would measure the queue instead."""
MOST_WALKERS = 200
SETTLE_WITHIN = 120.0
READINGS = 10
"""Readings of the books beside the record of the gateways, until nothing happens meanwhile."""
ERRORS_SHOWN = 20
WOMEN = {"id": "women", "kind": "women", "at": "block", "gender": "female", "consent": "group"}


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()


class DemoSettings(BaseSettings):
    """Read from the environment, without a prefix: UNITS, MEMBERS, SEED, CHANNELS, STAY."""

    units: Path = SAMPLE
    members: Annotated[int, Field(ge=1, le=MOST)] = 2000
    seed: int = 1
    channels: Literal["recorded", "sim"] = "recorded"
    stay: bool = False

    @property
    def simulated(self) -> bool:
        """Whether messages go by simulated gateways."""
        return self.channels == "sim"

    @property
    def consents(self) -> Mapping[tuple[str, ...], int]:
        return SEVERAL_CHANNELS if self.simulated else CHANNELS

    @property
    def imported(self) -> int:
        """How many are in the file of the import."""
        return self.members // 4

    @property
    def walkers(self) -> int:
        return min(MOST_WALKERS, self.members // 10)


async def run(stack: LocalStack, settings: DemoSettings, tree: str, console: Console) -> None:
    """Run the demo on a stack that is up.

    :raises LocalError: the tree is refused, a service fails, or the books do not balance
    """
    async with AsyncExitStack() as clients:
        api = await clients.enter_async_context(Api(stack.urls, stack.token, connections=AT_ONCE))
        simulators: Simulators | None = None
        if stack.gateways:
            simulators = await clients.enter_async_context(Simulators(stack.gateways.url("control")))
        try:
            books, redrawn = await _play(stack, api, simulators, settings, tree, console)
            shown = await _roster(api, simulators)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
    report(books, console)
    for line in redrawn.shown if redrawn else ():
        console.print(line, soft_wrap=True)
    if shown:
        console.print(described(shown))
    where_next(stack, console, stay=settings.stay)
    if not books.balanced or not all(each.balances for each in (redrawn, shown) if each):
        raise LocalError("the books do not balance")
    if settings.stay:
        await watch(stack, console)


def prepare() -> tuple[DemoSettings, str]:
    """The settings and the tree's CSV, read before anything starts.

    :raises LocalError: the settings are refused or the tree cannot be read
    """
    try:
        settings = DemoSettings()
        return settings, read_tree(settings.units)
    except ValidationError as problem:
        wrong = (f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in problem.errors())
        raise LocalError("; ".join(wrong)) from None


async def _play(
    stack: LocalStack,
    api: Api,
    simulators: Simulators | None,
    settings: DemoSettings,
    tree: str,
    console: Console,
) -> tuple[Books, Redrawn | None]:
    gone = await successors(api)
    await _load(api, without(tree, gone), settings.units, console)
    await _open_womens_groups(api, console)
    units, rushing = codes(tree), settings.members - settings.imported - settings.walkers

    def crowd(count: int, seed: int, first: int = 0) -> Iterator[Person]:
        return resettled(people(count, units, seed, first=first, consents=settings.consents), gone)

    arrivals, links = Arrivals(api), InviteLinks(api)
    roll = crowd(settings.imported, settings.seed + 2, settings.members - settings.imported)
    imported = await _import(stack, api, settings, roll, console)
    began = time.perf_counter()
    if imported and await settle(api, links, SETTLE_WITHIN):
        seconds = time.perf_counter() - began - QUIET_SECONDS
        console.print(f"all placed, welcomed and counted {seconds:.1f} s after the last row")

    if simulators:
        await simulators.lose_answers()
    async with _in_background(links.keep_giving()):
        began = time.perf_counter()
        with _bar(console, f"members join, {AT_ONCE} at a time", rushing) as told:
            rushed = await arrivals.rush(crowd(rushing, settings.seed), AT_ONCE, told)
        rush_seconds = time.perf_counter() - began
    await settle(api, links, SETTLE_WITHIN)
    settled_seconds = time.perf_counter() - began

    # Only units whose group already has its link, so that no welcome waits for the admin.
    live, consents = sorted(links.live) or [gone.get(unit, unit) for unit in units], settings.consents
    walkers = people(settings.walkers, live, settings.seed + 1, first=rushing, consents=consents)
    async with Watcher(api) as watcher:
        with _bar(console, f"members join, {WALKING_PACE:.0f} a second", settings.walkers) as told:
            walked = await arrivals.walk(walkers, WALKING_PACE, told)
        await settle(api, links, SETTLE_WITHIN)
    redrawn = await redraw(api, lambda: settle(api, links, SETTLE_WITHIN))
    pace = Pace(len(rushed), rush_seconds, settled_seconds, walked, watcher.samples)
    answered = imported + len(rushed) + len(walked) + arrivals.already
    if not simulators:
        return await Books.read(api, asked=settings.members, answered=answered, pace=pace), redrawn
    await simulators.settled(api, SETTLE_WITHIN)
    await settle(api, links, SETTLE_WITHIN)
    record = await simulators.read(api)
    for _ in range(READINGS):  # a message that is tried again meanwhile would be in one of the two alone
        books = await Books.read(api, asked=settings.members, answered=answered, pace=pace, record=record)
        before, record = record, await simulators.read(api)
        if record == before:
            break
    return books, redrawn


async def _roster(api: Api, simulators: Simulators | None) -> Shown | None:
    """A roster of the largest group whose list is one page; None if no group has three members."""
    groups = [group async for group in api.pages("groups", "/v1/groups") if 3 <= group["members"] <= 100]
    if not groups:
        return None
    return await show_roster(api, max(groups, key=lambda group: group["members"]), simulators)


async def _import(
    stack: LocalStack, api: Api, settings: DemoSettings, roll: Iterator[Person], console: Console
) -> int:
    """How many of the roll's people are members afterwards."""
    if not settings.imported:
        return 0
    file = stack.directory / "roll.csv"
    write_roll(file, roll)
    console.print(f"a roll of {settings.imported:,} members comes in as {file.name}:")
    return await import_roll(api, stack.urls["members"], stack.token, file, console)


async def _load(api: Api, tree: str, file: Path, console: Console) -> None:
    """`POST /v1/units/imports`: loads the whole tree or nothing."""
    answer = await api.send(
        "POST", "groups", "/v1/units/imports", content=tree.encode(), headers={"Content-Type": "text/csv"}
    )
    if answer.status_code == 422:
        errors = answer.json().get("errors", [])
        lines = [f"  {error['pointer']}: {error['detail']}" for error in errors[:ERRORS_SHOWN]]
        raise LocalError("\n".join([f"the units in {file} are refused; nothing was loaded", *lines]))
    if answer.status_code not in (200, 202):
        raise LocalError(f"groups answered {answer.status_code} to the units: {answer.text[:300]}")
    done = answer.json()
    if answer.status_code == 202:
        done = await _followed(api, answer.headers["location"], console)
    console.print(f"{done['created']:,} units loaded, {done['unchanged'] + done['updated']:,} already there")


async def _open_womens_groups(api: Api, console: Console) -> None:
    """Put a placement policy in force by which women who ask for it have a seat in the group of their block.

    :raises LocalError: groups refuses it
    """
    policy = await api.get("groups", "/v1/placement-policy")
    if any(rule["id"] == WOMEN["id"] for rule in policy["rules"]):
        return
    kinds = [*policy["kinds"], {"kind": "women", "capacity": 1024}]
    known = ("id", "kind", "at", "gender", "consent", "role")
    rules = [{name: rule[name] for name in known} for rule in policy["rules"]]
    body = {"levels": policy["levels"], "kinds": kinds, "rules": [*rules, WOMEN]}
    headers = {"If-Match": f'"{policy["version"]}"'}
    answer = await api.send("PUT", "groups", "/v1/placement-policy", json=body, headers=headers)
    if answer.status_code != 202:
        raise LocalError(f"groups answered {answer.status_code} to the policy: {answer.text[:300]}")
    console.print("women's groups of the blocks are switched on, for women who ask for one")


async def _followed(api: Api, location: str, console: Console) -> Any:
    """Show the progress of a long import; its result. :raises LocalError: the job failed"""
    job = await api.get("groups", location)
    with Progress(*_columns(), console=console) as progress:
        task = progress.add_task("units are written by a job", total=None)
        while job["state"] in ("waiting", "running"):
            await asyncio.sleep(0.2)
            job = await api.get("groups", location)
            progress.update(task, completed=job["progress"]["done"], total=job["progress"]["total"])
    if job["state"] != "succeeded":
        raise LocalError(f"the import of the units is {job['state']}: {job['reason']} {job['detail'] or ''}")
    return job["result"]


@asynccontextmanager
async def _in_background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run `work` beside the block and cancel it after; its failure fails the block's end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _bar(console: Console, label: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar; the yielded function advances it by one."""
    with Progress(*_columns(), console=console) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)
