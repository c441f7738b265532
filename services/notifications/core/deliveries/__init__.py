"""Delivery records: how far each message handed to a provider has come."""
