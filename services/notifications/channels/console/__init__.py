"""The console channel: shows messages on standard output, for development."""
