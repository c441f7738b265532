"""The platform and every service run without `services/shared/operations`: what operators run is not needed
to serve."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVE = """
import asyncio, json, sys
from pathlib import Path
import httpx2
from services.{name}.app import build
from services.{name}.settings import {settings}

async def main() -> None:
    service = build({settings}(**json.loads(sys.argv[1])))
    transport = httpx2.ASGITransport(app=service.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        print((await http.get("/livez")).status_code, len((await http.get("/openapi.json")).json()["paths"]))
    service.runtime.close()
    assert not [name for name in sys.modules if name.startswith("services.shared.operations")]
    assert Path(sys.modules["services.shared.runtime"].__file__).is_relative_to(Path.cwd())

asyncio.run(main())
"""
KEYS = {"master_keys": {"k": "A" * 128}}
SETTINGS = {
    "members": ("MembersSettings", KEYS | {"blind_index_key": "A" * 43 + "="}),
    "groups": ("GroupsSettings", KEYS),
    "notifications": (
        "NotificationsSettings",
        KEYS
        | {"members_url": "http://127.0.0.1", "groups_url": "http://127.0.0.1", "service_token_file": "x"},
    ),
    "analytics": ("AnalyticsSettings", {}),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_serves_without_the_operators_tools(name: str, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("operations", "__pycache__", "ops.py")
    shutil.copytree(ROOT / "services", tmp_path / "services", ignore=ignored)
    settings, values = SETTINGS[name]
    script = SERVE.format(name=name, settings=settings)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(values)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status, paths = done.stdout.split()
    assert status == "200"
    assert int(paths) > 1
