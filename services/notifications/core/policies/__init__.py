"""The policies of sending: hours, silence, caps, budgets and rates, as one versioned document."""
