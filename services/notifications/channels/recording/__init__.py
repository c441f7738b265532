"""The recording channel, which is the default: keeps messages and sends them to nobody."""
