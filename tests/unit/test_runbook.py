"""Every command of the runbook parses, every link leads somewhere, and every metric is exported."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/runbook.md").read_text()
UsageError = typer.BadParameter.__bases__[0]  # typer has its own click, and no other name for it
OURS = ("python -m ", "ops ", "make ")


def spans(text: str) -> list[str]:
    """Inline code, and the lines of code blocks."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()] + re.findall(r"`([^`]+)`", prose)


def commands() -> list[str]:
    """Each command once; `ops` written out."""
    found = [span for span in spans(TEXT) if span.startswith(OURS) and "<name>" not in span]
    return sorted({re.sub(r"^ops ", "python -m services.shared.ops ", span) for span in found})


def without_server(text: str) -> list[str]:
    """Kafka commands that lack their server and would not start."""
    kafkas = [span for span in spans(text) if re.match(r"kafka-[\w-]+\.sh\b", span)]
    return [span for span in kafkas if not re.search(r" --bootstrap-server [\w.-]+:\d+", span)]


def application(module: str) -> typer.Typer | None:
    main = importlib.import_module(module)
    if hasattr(main, "__path__"):  # a package is run by its `__main__`
        main = importlib.import_module(f"{module}.__main__")
    return next((value for value in vars(main).values() if isinstance(value, typer.Typer)), None)


def parse(app: typer.Typer, words: list[str]) -> None:
    """Resolve the last subcommand and its options, without running anything. Raises: `UsageError`."""
    command: Any = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name, command, words = command.resolve_command(command.context_class(command), words)
        assert command is not None
    command.make_context(name, words)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("line", commands())
def test_every_command_parses(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        assert words[1] in targets()
        return
    module, arguments = words[2], words[3:]
    if module == "services.shared.ops" and not arguments:
        return
    app = application(module)
    if app is not None:
        parse(app, arguments)
        return
    run = [sys.executable, "-m", module, "--help"]
    said = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    for option in (word for word in arguments if word.startswith("--")):
        assert option in said


def test_wrong_commands_are_found() -> None:
    assert len(commands()) > 20
    groups = application("services.groups")
    assert groups
    for wrong in ("restore /backup --database x", "restor /backup", "rebuild --database x --group y --force"):
        with pytest.raises(UsageError):
            parse(groups, wrong.split())


def test_every_command_of_kafka_names_its_server() -> None:
    assert len(re.findall(r"kafka-[\w-]+\.sh ", TEXT)) >= 3
    assert without_server(TEXT) == []
    for wrong in (
        "`kafka-topics.sh --describe`",
        "```sh\nkafka-topics.sh --bootstrap-server --describe\n```",
    ):
        assert without_server(f"{wrong}\n")


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert {link.removeprefix("#") for link in links if link.startswith("#")} <= anchors
    files = [link for link in links if not link.startswith("#")]
    files += [f"../{path}" for path in re.findall(r"`((?:services|infra|tests|docs)/[\w./-]+\.\w+)`", TEXT)]
    assert not [file for file in files if not (ROOT / "docs" / file).exists()]


def test_every_metric_and_setting_exists() -> None:
    exported = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bsangathan_\w+", TEXT))
    assert not {n for n in named if re.sub(r"_(bucket|sum|count)$", "", n) not in exported}
