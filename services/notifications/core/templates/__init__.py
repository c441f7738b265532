"""Templates: the texts of messages, their versions, and their approvals by regulators and providers."""
