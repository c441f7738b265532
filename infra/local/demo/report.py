"""Prints the books on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from infra.local.demo.books import Books
from infra.local.demo.latency import percentile
from infra.local.demo.lines import Figure, Line
from infra.local.services import SERVICES
from infra.local.stack import LocalStack


def report(books: Books, console: Console) -> None:
    """Print everything."""
    pace = books.pace
    if pace.rush_seconds:
        console.print(
            f"{pace.rushed:,} members registered in {pace.rush_seconds:.1f} s"
            f" ({pace.rushed / pace.rush_seconds:,.0f}/s); all placed, welcomed and counted"
            f" {pace.settled_seconds:.1f} s after the first"
        )
    tables = [_lines(books), _fullest(books), _districts(books), _latencies(books)]
    if books.gateways:
        tables.insert(1, _gateways(books))
    for table in tables:
        console.print()
        console.print(table)
    _connected(books, console)


def _lines(books: Books) -> Table:
    names = (*SERVICES, "gateways") if books.gateways else SERVICES
    table = Table("", *names, "", title="The books", title_justify="left", box=None, pad_edge=False)
    for line in books.lines:
        table.add_row(line.label, *(_cell(line, name) for name in names), _mark(line))
    for reason, count in sorted(books.reasons.items()):
        table.add_row(f"  {reason}", "", "", f"{count:,}", *[""] * (len(names) - 2))
    for column in table.columns[1:-1]:
        column.justify = "right"
    return table


def _cell(line: Line, name: str) -> str:
    return _figure(line.figures[name]) if name in line.figures else ""


def _figure(figure: Figure) -> str:
    if figure is None:
        return "-"
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:.2%}"


def _mark(line: Line) -> str:
    return "[green]balances[/]" if line.balances else "[bold red]DOES NOT BALANCE[/]"


def _gateways(books: Books) -> Table:
    statuses = ("delivered", "read", "failed")
    table = Table("gateways", "taken", "refused", *statuses, "answers lost", box=None, pad_edge=False)
    for each in books.gateways:
        told = (f"{each.told.get(status, 0):,}" for status in statuses)
        table.add_row(each.name, f"{each.taken:,}", f"{each.refused:,}", *told, f"{each.lost_answers:,}")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _fullest(books: Books) -> Table:
    table = Table("fullest groups", "", "members", "seats", box=None, pad_edge=False)
    for group in books.fullest:
        table.add_row(group["unit"], group["name"]["hi"], f"{group['members']:,}", f"{group['capacity']:,}")
    return table


def _districts(books: Books) -> Table:
    table = Table("largest districts", "members", "women", "share", "target", box=None, pad_edge=False)
    for row in books.districts:
        shares = (_figure(row[key]) for key in ("women_share", "women_target"))
        table.add_row(row["unit"], f"{row['members']:,}", f"{row['women']:,}", *shares)
    return table


def _connected(books: Books, console: Console) -> None:
    """The women connected, the districts covered, and where the next effort gains most."""
    covered, funnel = books.covered, books.women["funnel"]
    console.print()
    console.print(
        f"districts: {covered['units']:,}; with a live group {covered['with_live_group']:,},"
        f" with one that two people run {covered['with_admins']:,},"
        f" on their target of women {covered['on_target']:,} of {covered['with_target']:,}",
        soft_wrap=True,
    )
    stages = ("registered", "assigned", "invited", "joined", "active")
    console.print("women: " + ", ".join(f"{stage} {funnel[stage]:,}" for stage in stages), soft_wrap=True)
    for unit in books.next_units[:1]:
        console.print(f"next: {unit['unit']}: {unit['words']['en']}", soft_wrap=True)
        console.print(f"      {unit['words']['hi']}", soft_wrap=True)


def _latencies(books: Books) -> Table:
    table = Table("from the accepted POST to", "p50", "p99", "of", box=None, pad_edge=False)
    for name, seconds in books.latencies.items():
        cells = (percentile(seconds, percent) for percent in (50, 99))
        table.add_row(
            name, *("-" if s is None else f"{s * 1000:,.0f} ms" for s in cells), f"{len(seconds):,}"
        )
    return table


def where_next(stack: LocalStack, console: Console, *, stay: bool) -> None:
    """Print where to look next."""
    console.print()
    if stay:
        for name, url in stack.urls.items():
            console.print(f"{name:14}{url}/docs   {url}/metrics", soft_wrap=True)
        return
    console.print("Everything is stopped; the data is kept. To go on:", soft_wrap=True)
    for command, what in (
        (
            f'make up ARGS="--dir {stack.directory}"',
            "start it again with these members; it prints the addresses",
        ),
        ("STAY=1 make demo", "the demo again, then keep everything running"),
        ("MEMBERS=20000 make demo", "with more members; also UNITS=your.csv and SEED=7"),
    ):
        console.print(f"  {command}\n      {what}", soft_wrap=True)
