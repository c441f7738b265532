"""`python -m tests.bench.contenders <name>`: drain `member.joined` as `contenders/<name>.py` does, until
killed.

Configured by the environment and started like the groups service: the same event loop and garbage collector
settings.
"""

from __future__ import annotations

import importlib
import logging
import sys

import uvloop

from services.shared.runtime.composition import settle_garbage_collector
from tests.bench.contenders.job import Job


def main(name: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    uvloop.install()
    contender = importlib.import_module(f"tests.bench.contenders.{name}")
    job = Job(name)
    settle_garbage_collector()
    contender.run(job)


if __name__ == "__main__":
    main(sys.argv[1])
