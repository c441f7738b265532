"""Registration: `POST /v1/members`, the hot path of this service."""
