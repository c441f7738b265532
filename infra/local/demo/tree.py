"""Trees of units as CSV for `POST /v1/units/imports`: the project's own sample, or your file.

A file may have one of two shapes, distinguished by the header, and may be gzipped:

* the columns of the import itself, which pass unchanged;
* a chain of polling stations, one per row, as district election offices publish them. Its LGD codes,
  constituency numbers and station numbers become unit codes: `BR-218-2061-AC113PS12`.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from infra.local.errors import LocalError

SAMPLE = Path(__file__).parents[1] / "sample" / "units.csv"
COLUMNS = ("code", "level", "name_en", "name_hi", "women_target")
CHAIN_COLUMNS = frozenset({"district_lgd", "block_lgd", "block_hi", "ac_no", "ps_no", "ps_name_hi"})
_GZIP = b"\x1f\x8b"

Unit = tuple[str, str, str, str, str]
"""A row of `COLUMNS`."""


def read_tree(path: Path = SAMPLE) -> str:
    """The file as CSV with the header `COLUMNS`.

    :raises LocalError: it cannot be read, or has neither shape
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(_GZIP) else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as problem:
        raise LocalError(f"cannot read the units in {path}: {problem}") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    header = frozenset(rows.fieldnames or ())
    if {*COLUMNS[:-1]} <= header:
        return text
    if header >= CHAIN_COLUMNS:
        return _written(from_chain(rows))
    raise LocalError(f"{path} has neither the columns {','.join(COLUMNS)} nor those of a chain of stations")


def from_chain(rows: Iterable[Mapping[str, str]]) -> Iterator[Unit]:
    """The state, and each district, block and station of the rows once, parents first.

    The chain names districts only by code and gives no Latin names, so the names repeat the codes. A station
    without a number is numbered within its constituency, in the order of the rows.
    """
    yield "BR", "state", "Bihar", "बिहार", ""
    seen: set[str] = set()
    unnumbered: Counter[str] = Counter()
    for row in rows:
        constituency, number = row["ac_no"], row["ps_no"]
        if not number:
            unnumbered[constituency] += 1
        station = f"AC{constituency}PS{number or f'X{unnumbered[constituency]}'}"
        district = f"BR-{row['district_lgd']}"
        block = f"{district}-{row['block_lgd']}"
        lgd, block_lgd = row["district_lgd"], row["block_lgd"]
        for unit in (
            (district, "district", f"District {lgd}", f"ज़िला {lgd}", ""),
            (block, "block", f"Block {block_lgd}", row["block_hi"], ""),
            (
                f"{block}-{station}",
                "booth",
                f"Booth {number or '?'} of {constituency}",
                row["ps_name_hi"],
                "",
            ),
        ):
            if unit[0] not in seen:
                seen.add(unit[0])
                yield unit


def codes(text: str) -> list[str]:
    """The unit codes of a CSV returned by `read_tree`."""
    return [row["code"] for row in csv.DictReader(io.StringIO(text, newline=""))]


def _written(units: Iterable[Unit]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(units)
    return out.getvalue()
