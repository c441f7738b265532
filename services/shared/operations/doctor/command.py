"""`python -m services.shared.ops doctor`."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from services import __version__
from services.shared.clock import SystemClock
from services.shared.operations.cli.show import out
from services.shared.operations.cli.target import OpsError
from services.shared.operations.doctor import access, expected
from services.shared.operations.doctor.examination import examination
from services.shared.operations.doctor.findings import Finding, Verdict, exit_code
from services.shared.operations.doctor.looking import look

_STYLES = {Verdict.WELL: "green", Verdict.WRONG: "bold red", Verdict.BLIND: "yellow", Verdict.SKIPPED: "dim"}

Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="Of each process, repeatable; else SANGATHAN_<SERVICE>_URL or stack.json."),
]
Databases = Annotated[
    list[str] | None,
    typer.Option("--database", metavar="SERVICE=NAME", help="Where it is not named like the service."),
]
Kafka = Annotated[str, typer.Option(metavar="HOST:PORT", help="Else SANGATHAN_KAFKA_BOOTSTRAP.")]
Jwks = Annotated[str, typer.Option(metavar="PATH|URL", help="The key set; else SANGATHAN_JWKS.")]
Prometheus = Annotated[str, typer.Option(metavar="URL", help="Else SANGATHAN_PROMETHEUS_URL.")]
Alertmanager = Annotated[str, typer.Option(metavar="URL", help="Else SANGATHAN_ALERTMANAGER_URL.")]
Directory = Annotated[Path, typer.Option("--dir", help="Where the local stack keeps stack.json.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document a line.")]


def doctor(
    url: Urls = None,
    database: Databases = None,
    kafka: Kafka = "",
    jwks: Jwks = "",
    prometheus: Prometheus = "",
    alertmanager: Alertmanager = "",
    directory: Directory = Path(".local"),
    json: Json = False,
) -> None:
    """Say what is wrong with a deployment, a line each, with the cure. It changes nothing.

    MongoDB is SANGATHAN_MONGO_URI. Exit codes: 0 all that was looked at is well; 1 something is wrong; 2 something could not be looked
    at. What nobody gave an address of is said, and counts as neither.
    """
    wanted = expected.load()
    addresses = {"kafka_bootstrap": kafka, "jwks": jwks}
    addresses |= {"prometheus_url": prometheus, "alertmanager_url": alertmanager}
    try:
        where = access.find(tuple(wanted.services), url or (), database or (), directory, **addresses)
    except OpsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except SystemExit as refused:
        typer.echo(refused.code, err=True)
        raise typer.Exit(2) from None
    clock = SystemClock()
    facts = asyncio.run(look(where, wanted, clock))
    findings = examination(facts, wanted, __version__, clock.now())
    (_as_json if json else _as_text)(findings)
    raise typer.Exit(exit_code(findings))


def _as_json(findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(json.dumps(asdict(finding), ensure_ascii=False))


def _as_text(findings: Sequence[Finding]) -> None:
    for finding in findings:
        cure = f" Cure: {finding.cure}" if finding.cure else ""
        word = Text(f"{finding.verdict:8}", style=_STYLES[finding.verdict])
        out.print(word.append(f"{finding.area}: {finding.said}.{cure}", style="not bold default"))
    counts = Counter(finding.verdict for finding in findings)
    said = [f"{counts[Verdict.WELL]} well", f"{counts[Verdict.WRONG]} wrong"]
    out.print(", ".join([*said, f"{counts[Verdict.BLIND] + counts[Verdict.SKIPPED]} not checked"]))
