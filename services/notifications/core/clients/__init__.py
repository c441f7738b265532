"""Clients of the members and groups services, which are asked for what no event may carry."""
