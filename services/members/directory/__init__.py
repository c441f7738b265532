"""The directory: getting, listing and resolving members."""
