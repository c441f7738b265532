"""`python -m infra.supply sbom | audit`, for every lock. `make sbom` and `make audit` install the tools
first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.supply.audit import Audit, run
from infra.supply.locks import ROOT, locks
from infra.supply.sbom import SupplyError, write

NOT_TESTED = 3
TOOLS = ROOT / "build" / "supply" / "bin"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Tools = Annotated[Path, typer.Option(help="Directory of cyclonedx-py and pip-audit.")]


@app.command()
def sbom(to: Path = ROOT / "build" / "sbom", tools: Tools = TOOLS) -> None:
    """Write a bill of materials of each lock. Exit code 1 when one is incomplete."""
    to.mkdir(parents=True, exist_ok=True)
    for name, lock in locks().items():
        file = to / f"{name}.cdx.json"
        try:
            print(f"sbom: {file.name}: {write(tools, lock, file)} components")
        except SupplyError as error:
            raise SystemExit(f"sbom: {error}") from None


@app.command()
def audit(tools: Tools = TOOLS) -> None:
    """Exit code 0: no known vulnerability; 1: a vulnerability; 3: not (fully) tested, as no source knows the
    packages."""
    code = 0
    for name, lock in locks().items():
        try:
            outcome = run(tools, lock)
        except SupplyError as error:
            print(f"NOT TESTED: audit of {name}: {error}")
            code = code or NOT_TESTED
            continue
        _tell(name, outcome)
        code = 1 if outcome.found else code or (0 if outcome.whole else NOT_TESTED)
    raise typer.Exit(code)


def _tell(name: str, outcome: Audit) -> None:
    for line in outcome.found:
        print(f"audit: {name}: {line}")
    if not outcome.whole:
        total = outcome.audited + len(outcome.unknown)
        some = ", ".join(outcome.unknown[:5]) + (", ..." if len(outcome.unknown) > 5 else "")
        known = f"the source knows {outcome.audited} of {total} packages, not {some or 'one'}"
        print(f"NOT TESTED: audit of {name}: {known}")
    elif not outcome.found:
        print(f"audit: {name}: no known vulnerability in {outcome.audited} packages")


if __name__ == "__main__":
    app()
