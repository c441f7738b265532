"""Mistakes around the local stack are told in one line, before anything starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from infra.local.errors import LocalError
from infra.local.keys import Keys
from infra.local.processes import ChildFailed
from infra.local.stack import LocalStack
from infra.local.workdir import hold

ROOT = Path(__file__).parents[3]
Usage = namedtuple("Usage", "total used free")


def up(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.local", "up", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COLUMNS": "300", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_run_in_a_named_directory_is_refused(tmp_path: Path) -> None:
    with hold(tmp_path / "a"):
        done = up("--dir", str(tmp_path / "a"))
    assert done.returncode == 1
    assert f"{tmp_path / 'a'} is in use by another run (process {os.getpid()})" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [None, b"{", b'{"kty": "oct", "k": "AAAA"}', b"\xff"])
def test_a_directory_or_a_key_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    directory = tmp_path / "a"
    if content is None:
        directory.write_text("a file")
        wrong = directory
    else:
        wrong = directory / "secrets" / "signing.jwk"
        wrong.parent.mkdir(parents=True)
        wrong.write_bytes(content)
    done = up("--dir", str(directory), SANGATHAN_GROUP_CAPACTY="7")
    assert done.returncode == 1
    assert f"error: {wrong}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "ignored: SANGATHAN_GROUP_CAPACTY" in done.stderr


async def test_a_full_disk_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 10**10, 120_000_000))
    with pytest.raises(LocalError, match=r"has 120 MB free, 500 MB are needed: free some, or give a --dir"):
        async with LocalStack(tmp_path):
            pass
    assert not (tmp_path / "secrets").exists()


def test_a_child_that_dies_of_a_full_disk_says_so() -> None:
    failed = ChildFailed("mongo", 14, Path("/logs/mongo.log"), "write: No space left on device")
    assert str(failed).startswith("mongo exited with code 14 before it was ready: the disk is full; see ")


async def test_a_run_that_moves_to_a_sibling_says_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 0))
    with hold(tmp_path / "a"), pytest.raises(LocalError):
        async with LocalStack(tmp_path / "a", or_sibling=True):
            pass
    [said] = [record.getMessage() for record in caplog.records]
    assert said == f"{tmp_path / 'a'} is in use by another run; this one lives in {tmp_path / 'a-2'}"


def test_the_error_of_a_malformed_key_does_not_show_it(tmp_path: Path) -> None:
    (tmp_path / "signing.jwk").write_text('{"kty": "OKP", "crv": "Ed25519", "d": "hunter2"}')
    with pytest.raises(LocalError) as refused:
        Keys.open(tmp_path)
    assert "hunter2" not in str(refused.value)
