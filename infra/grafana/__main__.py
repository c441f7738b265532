"""`python -m infra.grafana`: write dashboards/*.json from the modules beside it; `--check` fails when they
differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from infra.grafana.business import BUSINESS
from infra.grafana.overview import OVERVIEW
from infra.grafana.services import OWN, board_of

BOARDS = [OVERVIEW, *map(board_of, OWN), BUSINESS]
DIRECTORY = Path(__file__).parent / "dashboards"


def files() -> dict[str, str]:
    """The content of each file by its name."""
    return {f"{board.uid}.json": json.dumps(board, cls=JSONEncoder, indent=1) + "\n" for board in BOARDS}


def stale() -> list[str]:
    """Names of files that differ from these boards or belong to no board."""
    wanted = files()
    there = {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(check: bool) -> int:
    names = stale()
    if check and names:
        print(f"out of date, run `make docs`: {', '.join(names)}", file=sys.stderr)
        return 1
    wanted = files()
    for name in names:
        path = DIRECTORY / name
        if name in wanted:
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
