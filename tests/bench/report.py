"""The tables: on the console, and in docs/ between markers that only this module writes between."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.local.services import SERVICES
from tests.bench import plan
from tests.bench.capacity import Costs
from tests.bench.environment import ROOT
from tests.bench.figures import Ratio

Row = tuple[str, ...]
DOCS = ROOT / "docs"
RATIO_HEAD = ("what", "ours", "baseline", "ratio", "goal", "")


def machine(broker: str, *, full: bool) -> str:
    """One line: the machine and versions that the figures hold for."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), "?")
    names = {"kafka": "Apache Kafka, one broker", "embedded": "the embedded broker"}
    libraries = ", ".join(
        f"{n} {importlib.metadata.version(n)}" for n in ("aiokafka", "faststream", "sentry-arroyo")
    )
    return (
        f"{os.cpu_count()} cores ({model}), shared by the load generator, the services, mongod and "
        "the broker; "
        f"Python {platform.python_version()}; {names[broker]}; {libraries}."
        + ("" if full else " Sizes of `--quick`.")
    )


def show(ratios: Sequence[Ratio], broker: str, *, full: bool) -> None:
    _print(RATIO_HEAD, [r.row for r in ratios], machine(broker, full=full))


def show_costs(costs: Costs) -> None:
    for name, (head, rows) in tables(costs).items():
        _print(head, rows, name)


def write_benchmarks(ratios: Sequence[Ratio], broker: str, *, full: bool) -> None:
    _write(
        "benchmarks.md",
        {"ratios": _markdown(RATIO_HEAD, [r.row for r in ratios]), "machine": machine(broker, full=full)},
    )


def write_capacity(costs: Costs, broker: str, *, full: bool) -> None:
    written = {name: _markdown(head, rows) for name, (head, rows) in tables(costs).items()}
    _write("capacity.md", {**written, "machine": machine(broker, full=full)})


def tables(costs: Costs) -> dict[str, tuple[Row, list[Row]]]:
    """Heads and rows by the name of their place in docs/capacity.md."""
    return {**_one_join(costs), "consumers": _consumers(costs), **_planned(costs)}


def _one_join(costs: Costs) -> dict[str, tuple[Row, list[Row]]]:
    r = costs.reading
    total, logged = sum(r.processor.values()) * 1000, sum(r.topic_bytes.values())
    return {
        "whole": (
            ("joins measured", "joins/s sustained", "CPU ms a join", "cores in use"),
            [(f"{costs.joins:,}", f"{costs.rate:,.0f}", f"{total:.2f}", f"{costs.rate * total / 1000:.2f}")],
        ),
        "processor": (
            ("process", "CPU ms a join"),
            [*((name, f"{s * 1000:.2f}") for name, s in r.processor.items()), ("all", f"{total:.2f}")],
        ),
        "writes": (
            ("MongoDB, all services", "a join"),
            [(name, f"{value:,.1f}") for name, value in r.mongod.items()],
        ),
        "stored": (
            ("database", "documents a join", "bytes of data", "bytes of indexes"),
            [
                (s, f"{r.documents[s]:.2f}", f"{r.data_bytes[s]:,.0f}", f"{r.index_bytes[s]:,.0f}")
                for s in SERVICES
            ],
        ),
        "log": (
            ("topic", "bytes a join"),
            [*((topic, f"{size:,.0f}") for topic, size in r.topic_bytes.items()), ("all", f"{logged:,.0f}")],
        ),
    }


def _consumers(costs: Costs) -> tuple[Row, list[Row]]:
    head = (
        "service",
        "processes, each a quarter of a core",
        "events/s",
        "times one",
        "us an event",
        "us of mongod an event",
        "transactions aborted in 1,000 events",
        "cores in use, the broker's apart",
    )
    rows: list[Row] = [
        (
            service,
            str(n),
            f"{d.rate:,.0f}",
            f"{d.rate / drained[1].rate:.2f}",
            f"{d.processor * 1e6:,.0f}",
            f"{d.mongod * 1e6:,.0f}",
            f"{d.aborted * 1000:.1f}",
            f"{d.rate * (d.processor + d.mongod):.2f}",
        )
        for service, drained in costs.drained.items()
        for n, d in drained.items()
    ]
    return head, rows


def _planned(costs: Costs) -> dict[str, tuple[Row, list[Row]]]:
    return {
        "limits": (("used up", "at joins/s"), list(plan.limits(costs))),
        "rates": (
            ("joins/s", *SERVICES, "partitions a topic", "MongoDB shards", "Kafka brokers"),
            list(plan.rate_rows(costs)),
        ),
        "sizes": (
            (
                "members",
                "MongoDB",
                "with replicas",
                "shards by size",
                "log",
                "with replicas",
                "brokers by size",
            ),
            list(plan.size_rows(costs)),
        ),
    }


def write_table(name: str, part: str, head: Row, rows: Sequence[Row]) -> None:
    """Write one table into its place in docs/. Raises: `ValueError` when the document has none."""
    _write(name, {part: _markdown(head, rows)})


def _print(head: Row, rows: Sequence[Row], title: str) -> None:
    table = Table(*head, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=180).print(table)


def _markdown(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in lines)


def _write(name: str, parts: dict[str, str]) -> None:
    """Raises: `ValueError` when the document has no place for a part."""
    file = DOCS / name
    text = file.read_text()
    for part, content in parts.items():
        begin, end = f"<!-- measured: {part} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        if not found:
            raise ValueError(f"{name} has no place for {part}")
        text = before + begin + content + "\n" + end + rest.partition(end)[2]
    file.write_text(text)
