"""The core of the groups service: units, groups and placements, their rules and their collections."""
