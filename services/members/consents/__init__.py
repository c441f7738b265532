"""Consents: giving and withdrawing them, the ledger and its proof, and the notices that people were shown."""
