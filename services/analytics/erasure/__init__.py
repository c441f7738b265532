"""Erasure: what is particular to a member goes; sums over many people stay."""
