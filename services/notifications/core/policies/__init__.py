"""What operators decide about sending: hours, silence, caps, budgets and rates, as one versioned document."""
