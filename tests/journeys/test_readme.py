"""The README's tour, command by command, as a reader would paste it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.stack import LocalStack

ROOT = Path(__file__).parents[2]


def tour() -> str:
    """Every `bash` block after the mark, in order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, mark, after = text.partition("<!-- tour:")
    assert mark
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", after, re.MULTILINE | re.DOTALL))


@pytest.mark.heavy
async def test_the_tour_of_the_readme_works(tmp_path: Path) -> None:
    # A checkout as the reader has it: the stack in .local, Python in .venv.
    (tmp_path / ".venv").symlink_to(sys.prefix)
    script = f"set -euo pipefail\n{tour()}"
    async with LocalStack(tmp_path / ".local"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ran = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for expected in (
        '"created":3',
        '"status":"active"',
        '"state":"assigned"',
        '"held_for":"no_invite"',
        '"invite_link":"https://chat.whatsapp.com/ExampleInviteLink"',
        '"state":"sent"',
        '"women_share":1.0',
        "urn:sangathan:problem:",
        '"pointer":"/caste"',
        "sangathan_consumer_events",
        "0 dead",
        " well, 0 wrong, ",
    ):
        assert expected in ran.stdout, f"{expected} is not in\n{ran.stdout}"
    assert ran.stderr == ""
