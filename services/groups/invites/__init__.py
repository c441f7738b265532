"""Invites: links sealed at rest, and who is to be invited again."""
