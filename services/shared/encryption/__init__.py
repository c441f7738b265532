"""Encryption at rest: a vault seals small documents, each bound to the id of the document that stores it."""

from __future__ import annotations

from bson.binary import Binary

from services.shared.encryption.vault import (
    OVERHEAD,
    MasterKeys,
    Vault,
    create_key_collection,
    is_sealed_with,
)

Ciphertext = Binary
"""A sealed document as MongoDB stores it."""

__all__ = ["OVERHEAD", "Ciphertext", "MasterKeys", "Vault", "create_key_collection", "is_sealed_with"]
