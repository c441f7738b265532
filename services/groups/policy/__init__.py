"""The placement policy: read, previewed, put in force and applied; and how far the placements follow it."""
