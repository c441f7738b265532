"""`python -m tests.bench.contenders <name>`: drain `member.joined` in the way of `contenders/<name>.py`, until killed.

Configured by the environment as the groups service is, and started like it: the same event loop, the same settings of the garbage
collector.
"""

from __future__ import annotations

import importlib
import logging
import sys

import uvloop

from services.shared.runtime.composition import _settle_garbage_collector
from tests.bench.contenders.job import Job


def main(name: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    uvloop.install()
    contender = importlib.import_module(f"tests.bench.contenders.{name}")
    job = Job(name)
    _settle_garbage_collector()
    contender.run(job)


if __name__ == "__main__":
    main(sys.argv[1])
