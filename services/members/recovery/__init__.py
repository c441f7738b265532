"""Recovery: a database that was restored from a dump, and consumers that have lost their own state."""
