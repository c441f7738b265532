"""An import as a job would run it: rows checked in chunks, units written after a cursor."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice

from services.groups.core.domain import Unit
from services.groups.tree.csv_rows import check_file, check_rows, parents_outside, read_rows
from services.groups.tree.domain import ImportResult, parents_first, result_of, upserted
from services.shared.contracts.groups import UnitUpserted
from services.shared.errors import FieldError

TEXT = """code,level,name_en,name_hi,women_target
BR-SARAN,district,Saran,सारण,0.4

BR,state,Bihar,बिहार,
BR-X,block,X,क,
BR-SARAN,district,Saran,सारण,
BR-GAYA-A,block,A,अ,
""".encode()


def test_rows_checked_in_chunks_are_rows_checked_at_once() -> None:
    whole = check_rows(read_rows(TEXT))
    units: dict[int, Unit] = {}
    errors: list[FieldError] = []
    rows = read_rows(TEXT)
    while chunk := list(islice(rows, 2)):
        checked = check_rows(chunk)
        units |= checked.units
        errors += checked.errors
    assert (units, errors, {}) == whole
    assert list(units) == [2, 4, 6, 7]
    assert errors == [FieldError("/rows/5", "a code of this depth is a district")]


def test_a_file_is_checked_as_one() -> None:
    codes = {line: unit.code for line, unit in check_rows(read_rows(TEXT)).units.items()}
    assert parents_outside(codes) == {"BR-GAYA"}
    found = check_file(codes, lambda code: code != "BR", {"BR-GAYA"})
    assert [(error.pointer, error.detail) for error in found] == [
        ("/rows/2/code", "appears twice"),
        ("/rows/4/code", "is outside your units"),
        ("/rows/7/code", "its parent is neither in this file nor in the tree"),
    ]


def test_a_unit_of_a_file_takes_little_memory() -> None:
    script = """
import resource
from services.groups.tree.checked import CheckedFile
from services.groups.tree.csv_rows import COLUMNS, read_rows
rows = "".join(f"BR-D-{n},block,Block number {n},प्रखंड {n},\\n" for n in range(50_000))
file = CheckedFile(read_rows(f"{','.join(COLUMNS)}\\n{rows}".encode()))
del rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
while file.check_next():
    pass
assert len(file.parents_first()) == 50_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 25_000, "kilobytes, for 50,000 units"


def unit(code: str, women_target: float | None = None) -> Unit:
    return Unit(code, "state", None, {"en": code, "hi": code}, women_target)


def test_parents_are_written_first_in_an_order_that_does_not_depend_on_the_file() -> None:
    codes = ["BR-A-1", "UP-A", "BR-A", "UP", "BR"]
    assert [codes[n] for n in parents_first(codes)] == ["BR", "UP", "BR-A", "UP-A", "BR-A-1"]


def test_a_unit_is_created_changed_or_left_alone() -> None:
    created = upserted(None, unit("BR"))
    same = upserted(created.state, unit("BR"))
    changed = upserted(created.state, unit("BR", women_target=0.5))
    assert [step.state.version for step in (created, same, changed)] == [1, 1, 2]
    [(event, sequence)] = changed.events
    assert isinstance(event, UnitUpserted)
    assert (event.women_target, sequence) == (0.5, 2)
    assert not same.events
    result = result_of([created, same]) + result_of([changed])
    assert result == ImportResult(created=("BR",), updated=("BR",), unchanged=1)
