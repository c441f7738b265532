"""Deliveries: how far each message that was handed to a gateway has come, by its provider."""
