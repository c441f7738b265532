"""`python -m infra.local demo`, as a person runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(180)]


def demo(directory: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.local", "demo", "--dir", str(directory)]
    ports = ["members", "groups", "notifications", "analytics", "kafka", "mongo"]
    command += [argument for name in ports for argument in ("--port", f"{name}=0")]
    environment = {**os.environ, "COLUMNS": "160", **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)


def test_the_books_of_a_small_demo_balance(tmp_path: Path) -> None:
    ran = demo(tmp_path / "stack", MEMBERS="60", SEED="3")
    assert ran.returncode == 0, ran.stderr
    assert "answered, of 60 asked" in ran.stderr
    assert "DOES NOT BALANCE" not in ran.stderr
    assert ran.stderr.count("balances") == 15
    assert re.search(
        r"become BR[\w-]*-R1; by the comparison [1-9]\d* members and \d+ groups follow", ran.stderr
    )
    assert "nobody was welcomed again" in ran.stderr
    assert re.search(r"districts: \d+; with a live group [1-9]", ran.stderr)
    assert re.search(r"women: registered [1-9]\d*, assigned [1-9]\d*, invited [1-9]", ran.stderr)
    assert re.search(r"next: BR[\w-]*: .*wom[ae]n", ran.stderr)
    assert "महिला" in ran.stderr
    [women] = [
        line.split("group")[1].split()
        for line in ran.stderr.splitlines()
        if line.startswith("women who asked")
    ]
    assert int(women[0]) > 0


def test_by_simulated_gateways_each_message_is_found_once(tmp_path: Path) -> None:
    ran = demo(tmp_path / "stack", MEMBERS="120", SEED="4", CHANNELS="sim")
    assert ran.returncode == 0, ran.stderr
    assert "DOES NOT BALANCE" not in ran.stderr
    assert ran.stderr.count("balances") == 20
    [whatsapp] = [line.split() for line in ran.stderr.splitlines() if line.startswith("whatsapp ")]
    taken, lost = int(whatsapp[1]), int(whatsapp[-1])
    assert taken > 50
    assert lost == 1, "taken, though nobody was told so"
    assert "invited again: suppressed after a STOP" in ran.stderr


def test_units_that_are_refused_end_it_with_the_rows(tmp_path: Path) -> None:
    tree = tmp_path / "units.csv"
    tree.write_text("code,level,name_en,name_hi\nBR,state,Bihar,बिहार\nBR-A-B,block,B,ब\n", encoding="utf-8")
    ran = demo(tmp_path / "stack", UNITS=str(tree))
    assert ran.returncode == 1
    assert "/rows/3/code: its parent is neither in this file nor in the tree" in ran.stderr
