"""Dossiers: all that the four services hold about a member, as JSON and as a page to be handed over."""
