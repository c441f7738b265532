"""A key's partition is the one that every other Kafka client would choose."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import example, given
from hypothesis import strategies as st

from services.shared.messaging.kafka.partitioning import partition_of


@given(key=st.binary(max_size=80), partitions=st.integers(1, 200))
@example(key=b"", partitions=6)
@example(key=b"0198c2f0-7d1e-7c3a-9b1f-3f1d2c4b5a69", partitions=6)
def test_the_partition_is_that_of_the_default_partitioner(key: bytes, partitions: int) -> None:
    everything = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everything, everything)
