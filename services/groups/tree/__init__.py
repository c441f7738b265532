"""The tree of units: one unit at a time, or a whole tree from a CSV file."""
