"""The main job with clients made by a public generator from the running services' own documents."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.local.stack import LocalStack
from tests.journeys.generated_client import LINK
from tests.journeys.generated_client import __file__ as program

BIN = Path(__file__).parents[2] / ".venv-clients" / "bin"
MISSING = "NOT TESTED: there is no generator of clients; make .venv-clients/.installed"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = {"PATH": f"{BIN}:/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=cwd, env=path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def generate(urls: dict[str, str], directory: Path) -> str:
    """Make a package for each service; what the generator said."""
    said = ""
    for name, url in urls.items():
        options = ("--url", f"{url}/openapi.json", "--meta", "none", "--output-path", directory / name)
        done = run(BIN / "openapi-python-client", "generate", *options, cwd=directory)
        said += done.stdout + done.stderr
    return said


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.skipif(not (BIN / "openapi-python-client").exists(), reason=MISSING)
async def test_a_generated_client_does_the_main_job_and_changes_only_what_it_means_to(
    stack: LocalStack, tmp_path: Path
) -> None:
    urls = {name: stack.urls[name] for name in ("members", "groups", "notifications", "analytics")}
    said = await asyncio.to_thread(generate, urls, tmp_path)
    # The generator makes no bodies of files, and none of what providers call.
    warned = re.findall(r"WARNING parsing (\w+ \S+)", said)
    files = ["POST /v1/groups/{id}/roster", "POST /v1/imports", "POST /v1/units/comparisons"]
    called = ["POST /webhooks/sms/{gateway}/{secret}", "POST /webhooks/whatsapp"]
    assert sorted(set(warned)) == [*files, "POST /v1/units/imports", *called], said
    assert said.count("WARNING") == len(warned), said

    order = json.dumps({"clients": str(tmp_path), "urls": urls, "token": stack.token})
    done = await asyncio.to_thread(run, BIN / "python", program, order, cwd=tmp_path)
    saw: dict[str, Any] = json.loads(done.stdout)
    group, member = saw["group"], saw["member"]
    assert group["after"] == group["before"] | {
        "invite_link": LINK,
        "invite_ready": True,
        "version": group["before"]["version"] + 1,
    }
    changed = {"email": "asha@example.org", "version": 2, "updated_at": member["after"]["updated_at"]}
    assert member["after"] == member["before"] | changed
    assert saw["welcome"]["channel"] == "whatsapp"
    assert saw["figures"]["groups"]["seats"] == group["before"]["capacity"] > 1
