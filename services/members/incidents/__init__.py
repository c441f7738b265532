"""Incidents: a breach of personal data, its clocks, whom it affects, and the drafts of its notices."""
