"""Webhooks: callbacks of providers are stored as they come, and applied afterwards."""
