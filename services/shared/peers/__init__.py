"""Calls to other services: the service token, their metrics, and a client that gets what a service holds."""

from __future__ import annotations

from services.shared.peers.client import Peer
from services.shared.peers.metrics import peer_errors, token_expiry
from services.shared.peers.token import ServiceToken

__all__ = ["Peer", "ServiceToken", "peer_errors", "token_expiry"]
