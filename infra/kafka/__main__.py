"""Create the topics on a cluster: `python -m infra.kafka --bootstrap kafka:9092 --brokers 3`. Safe to run again."""

from __future__ import annotations

import argparse
import asyncio
import sys

from infra.kafka.topics import ensure_topics, load_topics
from services.shared.eventkit.errors import TransientError


def main() -> int:
    """Exit code 0 when every topic exists, 1 when the cluster could not be reached or refused."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka", description="Create Sangathan's topics.")
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument(
        "--brokers", type=int, default=3, help="nodes in the cluster: the limit of replication"
    )
    arguments = parser.parse_args()
    topics = load_topics(arguments.brokers)
    try:
        asyncio.run(ensure_topics(arguments.bootstrap, topics, within=60))
    except TransientError as problem:
        print(f"topics: {problem}", file=sys.stderr)
        return 1
    print(f"topics: {len(topics)} exist")
    return 0


if __name__ == "__main__":
    sys.exit(main())
