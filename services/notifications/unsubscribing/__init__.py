"""Stopping e-mails by the link that is in each of them."""
