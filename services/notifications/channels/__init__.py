"""Channels: senders behind one protocol; SANGATHAN_SENDER chooses one."""
