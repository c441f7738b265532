"""Options that several commands share, and the client that they name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from services.shared.operations.cli.client import Client
from services.shared.operations.cli.target import OpsError, find
from services.shared.operations.doctor import expected

Service = Annotated[str, typer.Option("--service", "-s", help="groups, notifications or analytics.")]
Url = Annotated[
    str | None,
    typer.Option(help="Address of the service. Default: SANGATHAN_<SERVICE>_URL, else stack.json."),
]
Directory = Annotated[Path, typer.Option("--dir", help="Directory of the local stack's stack.json.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document per line.")]
LOCAL: Final = Path(".local")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Any `OpsError` inside the block prints one line and exits with 1."""
    try:
        yield
    except OpsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def consumer(service: str, url: str | None, directory: Path) -> Iterator[Client]:
    """A client of a service that consumes events; with `one_line_errors`. Exits with 2 for any other name."""
    consumers = [name for name, each in expected.load().services.items() if each.reads]
    if service not in consumers:
        typer.echo(
            f"error: {service!r} is no service that consumes events: --service is {_either(consumers)}",
            err=True,
        )
        raise typer.Exit(2)
    with one_line_errors(), Client(find(service, url, directory)) as client:
        yield client


def _either(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]])
