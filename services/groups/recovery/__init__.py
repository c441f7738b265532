"""Recovery: the state rebuilt from the log, and published into it again."""
