"""Rosters: lists of who is in a chat group, as its admins upload them, compared with who should be."""
