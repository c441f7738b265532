"""Recovery: analytics is rebuilt from the log alone."""
