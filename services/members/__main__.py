"""`python -m services.members` serves; `python -m services.members rotate-keys` rotates the keys of contacts."""

from __future__ import annotations

import argparse
import asyncio

from services.members.app import build
from services.members.rotation import rotate_keys
from services.members.settings import MembersSettings
from services.shared.kernel import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.members", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["serve", "rotate-keys"], default="serve")
    command = parser.parse_args().command
    settings = MembersSettings.load()
    if command == "rotate-keys":
        asyncio.run(rotate_keys(settings, print))
    else:
        serve(settings, build)


if __name__ == "__main__":
    main()
