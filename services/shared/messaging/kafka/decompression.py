"""Bounded decompression of batches, in place of aiokafka's, written for aiokafka 0.14.

A batch of a kilobyte can be compressed zeros of a gigabyte, and aiokafka decompresses whatever it fetches:
the process would be killed for its memory, fetch the same batch after its restart, and be killed again.
aiokafka has no setting for it; tests/unit/messaging/test_aiokafka_patches.py fails when a new version changes
the names.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any, Final

import cramjam
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records, legacy_records

MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
"""Largest size of a batch's records. The broker takes batches of a megabyte, and text shrinks to a tenth."""
USUAL_RATIO: Final = 32
_XERIAL_HEADER_BYTES: Final = 16


def gzip(payload: Any) -> bytes:
    """Raises: `CorruptRecordException` when the records are larger than `MAX_BATCH_BYTES`; `zlib.error`."""
    out, rest = b"", bytes(payload)
    while rest:
        member = zlib.decompressobj(wbits=31)
        out += member.decompress(rest, MAX_BATCH_BYTES + 1 - len(out))
        _check(len(out))
        if not member.eof:
            raise CorruptRecordException("gzip ends early")
        rest = member.unused_data
    return out


def snappy(payload: Any) -> bytes:
    """Raises: as `gzip`, with cramjam's `DecompressionError`."""
    view = memoryview(bytes(payload))
    if not codec._detect_xerial_stream(view):
        _check(cramjam.snappy.decompress_raw_len(view))
        return bytes(cramjam.snappy.decompress_raw(view))
    out, at = bytearray(), _XERIAL_HEADER_BYTES
    while at < len(view):
        end = at + 4 + int.from_bytes(view[at : at + 4], "big")
        block = view[at + 4 : end]
        _check(len(out) + cramjam.snappy.decompress_raw_len(block))
        out += bytes(cramjam.snappy.decompress_raw(block))
        at = end
    return bytes(out)


def lz4(payload: Any) -> bytes:
    """Raises: as `gzip`."""
    return _into(cramjam.lz4.decompress_into, payload)


def zstd(payload: Any) -> bytes:
    """Raises: as `gzip`."""
    return _into(cramjam.zstd.decompress_into, payload)


def _into(decompress: Callable[[Any, Any], int], payload: Any) -> bytes:
    data = bytes(payload)
    for size in (min(MAX_BATCH_BYTES, USUAL_RATIO * len(data)), MAX_BATCH_BYTES):
        buffer = bytearray(size)
        try:
            used = decompress(data, buffer)
        except cramjam.DecompressionError:  # damaged, or larger than the buffer
            continue
        return bytes(memoryview(buffer)[:used])
    raise CorruptRecordException("damaged, or larger than a batch may be")


def _check(size: int) -> None:
    if size > MAX_BATCH_BYTES:
        raise CorruptRecordException("larger than a batch may be")


BOUNDED: Final = {"gzip_decode": gzip, "snappy_decode": snappy, "lz4_decode": lz4, "zstd_decode": zstd}


def bound() -> None:
    """Have aiokafka decompress with these functions, in this process."""
    for name, function in BOUNDED.items():
        for batch in (default_records.DefaultRecordBatch, legacy_records.LegacyRecordBatch):
            module = _module_of(batch)
            if hasattr(module, name):
                setattr(module, name, function)


def _module_of(batch: type) -> Any:
    """The module whose names a batch's code uses: the compiled one where there is one."""
    return sys.modules[batch.__module__]
