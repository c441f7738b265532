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
    typer.Option(
        "--url",
        help="URL of a process; repeatable. Default: SANGATHAN_<SERVICE>_URL, else stack.json.",
    ),
]
Databases = Annotated[
    list[str] | None,
    typer.Option(
        "--database",
        metavar="SERVICE=NAME",
        help="Name of a service's database, if it differs from the service's name.",
    ),
]
Kafka = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Kafka's address. Default: SANGATHAN_KAFKA_BOOTSTRAP.")
]
Jwks = Annotated[
    str, typer.Option(metavar="PATH|URL", help="Key set that verifies tokens. Default: SANGATHAN_JWKS.")
]
Prometheus = Annotated[
    str, typer.Option(metavar="URL", help="Prometheus's address. Default: SANGATHAN_PROMETHEUS_URL.")
]
Alertmanager = Annotated[
    str, typer.Option(metavar="URL", help="Alertmanager's address. Default: SANGATHAN_ALERTMANAGER_URL.")
]
Directory = Annotated[Path, typer.Option("--dir", help="Directory of the local stack's stack.json.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document per line.")]


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
    """Report what is wrong with a deployment, one line per fault, with its cure. Changes nothing.

    MongoDB's address is SANGATHAN_MONGO_URI. Exit codes: 0 everything checked is well; 1 something is wrong;
    2 something could not be checked, or nothing was. A part without an address is reported as not checked;
    alone, it does not change the exit code.
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
