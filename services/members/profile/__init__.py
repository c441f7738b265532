"""The profile of a member: changing it, moving to another unit, leaving."""
