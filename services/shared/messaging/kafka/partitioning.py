"""The partition of a key by Kafka's own rule, so that all clients of the cluster agree.

The same hash as `aiokafka.partitioner` (tests/unit/messaging compare them) in a third of the time: aiokafka's
took half of the cost of publishing an event.
"""

from __future__ import annotations

import struct
from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_32_BITS: Final = 0xFFFFFFFF


def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition, from 0, of `key` in a topic with `partitions` partitions (DefaultPartitioner of Kafka's
    Java client).

    This project's records all have a key. A foreign record without one goes to the first partition, where
    Kafka would choose at random.
    """
    return 0 if key is None else (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(key: bytes) -> int:
    """MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2), as 32 unsigned bits."""
    length = len(key)
    h = _SEED ^ length
    for word in struct.unpack_from(f"<{length >> 2}I", key):
        k = word * _M & _32_BITS
        h = (h * _M ^ (k ^ k >> 24) * _M) & _32_BITS
    if tail := key[length & ~3 :]:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _32_BITS
    h = (h ^ h >> 13) * _M & _32_BITS
    return h ^ h >> 15
