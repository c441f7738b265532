"""`python -m infra.local`: the whole system on this machine, without Docker."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from infra.local.broker import BROKERS, DEFAULT_BROKER
from infra.local.demo import prepare
from infra.local.demo import run as play
from infra.local.errors import LocalError
from infra.local.keys import Keys
from infra.local.services import SERVICES
from infra.local.stack import LocalStack
from infra.local.status import watch

USUAL_PORTS = {
    "members": 8001,
    "groups": 8002,
    "notifications": 8003,
    "analytics": 8004,
    "kafka": 9092,
    "mongo": 27017,
}
DEFAULT_DIRECTORY = Path(".local")
OURS = {"SANGATHAN_LOCAL_BROKER", "SANGATHAN_LOCAL_PORTS", "SANGATHAN_TOKEN", "SANGATHAN_TOKEN_FILE"}
"""Variables that this command and `ops` read."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(stderr=True)

Directory = Annotated[Path, typer.Option("--dir", help="Directory of data, logs, keys and stack.json.")]
Broker = Annotated[
    str,
    typer.Option(
        help=f"Broker to run: {', '.join(BROKERS)}; by default SANGATHAN_LOCAL_BROKER, else embedded."
    ),
]
Brokers = Annotated[
    int, typer.Option(min=1, max=5, help="Kafka nodes; more than one with --broker kafka only.")
]
MongoNodes = Annotated[int, typer.Option(min=1, max=7, help="Nodes of the MongoDB replica set.")]
ReplicaOptions = Annotated[
    list[str] | None,
    typer.Option("--replicas", metavar="SERVICE=N", help="Repeatable; processes of a service, 1 by default."),
]
Keep = Annotated[
    bool, typer.Option("--keep/--fresh", help="Keep the data of the last run, or start without it.")
]
Secure = Annotated[
    bool, typer.Option("--secure", help="TLS and least privilege on both stores; with --broker kafka only.")
]
PortOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--port",
        metavar="NAME=PORT",
        envvar="SANGATHAN_LOCAL_PORTS",
        help="Repeatable; 0 means any free port.",
    ),
]


@app.command()
def up(
    directory: Directory = DEFAULT_DIRECTORY,
    broker: Broker = DEFAULT_BROKER,
    brokers: Brokers = 1,
    mongo_nodes: MongoNodes = 1,
    replicas: ReplicaOptions = None,
    keep: Keep = True,
    port: PortOptions = None,
    secure: Secure = False,
) -> None:
    """Start everything and keep it running until Ctrl-C."""
    stack = _stack(
        directory,
        keep,
        port,
        replicas,
        broker=broker,
        brokers=brokers,
        mongo_nodes=mongo_nodes,
        secure=secure,
    )
    _run(stack, lambda: watch(stack, console))


@app.command()
def demo(
    directory: Directory = DEFAULT_DIRECTORY,
    broker: Broker = DEFAULT_BROKER,
    brokers: Brokers = 1,
    mongo_nodes: MongoNodes = 1,
    replicas: ReplicaOptions = None,
    keep: Keep = False,
    port: PortOptions = None,
) -> None:
    """Start everything, then demonstrate it.

    The environment chooses what: UNITS=file.csv another tree, MEMBERS=2000 how many join, SEED=1 who,
    CHANNELS=sim messages that go by simulated gateways (WhatsApp, SMS, e-mail) instead of being recorded,
    STAY=1 everything keeps running.
    """
    try:
        settings, tree = prepare()
    except LocalError as problem:
        raise SystemExit(f"error: {problem}") from None
    stack = _stack(
        directory,
        keep,
        port,
        replicas,
        broker=broker,
        brokers=brokers,
        mongo_nodes=mongo_nodes,
        simulators="demo" if settings.simulated else None,
    )
    _run(stack, lambda: play(stack, settings, tree, console))


@app.command()
def secrets(
    directory: Directory = DEFAULT_DIRECTORY, days: Annotated[int, typer.Option(min=1)] = 365
) -> None:
    """Create the development keys and secrets that docker-compose.yml mounts, and print where they are."""
    with one_line_errors(directory):
        keys = Keys.open(directory / "secrets", days)
        directory.chmod(0o700)
        keys.share_with_containers()
    console.print(f"keys and secrets are in {keys.directory}; tokens are good for {days} days")


@app.command()
def env(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Print the running stack's addresses and token as shell variables.

    Use it as `eval "$(python -m infra.local env)"`.
    """
    try:
        facts = json.loads((directory / "stack.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SystemExit(f"error: nothing is running in {directory}; start it with `make up`") from None
    except (OSError, ValueError):
        raise SystemExit(f"error: {directory / 'stack.json'} cannot be read") from None
    for service, url in facts["services"].items():
        print(f"export {service.upper()}_URL={url}")
    print(f"export KAFKA_BOOTSTRAP={facts['kafka']}", end=" ")
    print(f"MONGO_URI={shlex.quote(facts['mongo'])} TOKEN={facts['token']}")


def _stack(
    directory: Path,
    keep: bool,
    ports: list[str] | None,
    replicas: list[str] | None,
    *,
    broker: str,
    brokers: int,
    mongo_nodes: int,
    secure: bool = False,
    simulators: str | None = None,
) -> LocalStack:
    try:
        wished = USUAL_PORTS | dict(_port(text) for text in ports or ())
        # Only the default directory may be replaced by a sibling: a directory that was named was meant.
        return LocalStack(
            directory,
            broker=broker,
            brokers=brokers,
            mongo_nodes=mongo_nodes,
            replicas=dict(_replicas(text) for text in replicas or ()),
            ports=wished,
            fresh=not keep,
            or_sibling=directory == DEFAULT_DIRECTORY,
            secure=secure,
            simulators=simulators,
        )
    except LocalError as problem:
        raise SystemExit(f"error: {problem}") from None


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name not in USUAL_PORTS or not number.isdecimal() or int(number) > 65_535:
        raise LocalError(f"--port {text}: expected NAME=PORT, NAME one of {', '.join(USUAL_PORTS)}")
    return name, int(number)


def _replicas(text: str) -> tuple[str, int]:
    service, _, count = text.partition("=")
    if service not in SERVICES or count not in map(str, range(1, 10)):
        raise LocalError(
            f"--replicas {text}: expected SERVICE=N, SERVICE one of {', '.join(SERVICES)}, N 1 to 9"
        )
    return service, int(count)


def _run(stack: LocalStack, inside: Callable[[], Awaitable[None]]) -> None:
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    if ignored := sorted(name for name in os.environ if name.startswith("SANGATHAN_") and name not in OURS):
        logging.warning(
            "ignored: %s: services of the stack get their settings from it alone", ", ".join(ignored)
        )
    with one_line_errors(stack.directory):
        asyncio.run(_until_stopped(stack, inside))


@contextmanager
def one_line_errors(directory: Path) -> Iterator[None]:
    """Report what the user can mend in one line, and exit with 1."""
    try:
        yield
    except LocalError as problem:
        raise SystemExit(f"error: {problem}") from None
    except OSError as problem:  # a full disk, a directory of somebody else
        raise SystemExit(f"error: {problem.filename or directory}: {problem.strerror}") from None


async def _until_stopped(stack: LocalStack, inside: Callable[[], Awaitable[None]]) -> None:
    """Run `inside` within the stack; SIGINT or SIGTERM stops both and is not an error."""
    loop = asyncio.get_running_loop()
    work = asyncio.ensure_future(_inside(stack, inside))

    def stop() -> None:
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, lambda: None)  # a second signal must not cut the first stop short
        console.print("stopping (up to 10 s per process) ...")
        work.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


async def _inside(stack: LocalStack, inside: Callable[[], Awaitable[None]]) -> None:
    console.print("starting MongoDB, the broker and the services ...")
    async with stack:
        await inside()


if __name__ == "__main__":
    app()
