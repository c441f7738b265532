"""Reading and changing the policies of sending: hours, silence, caps, budgets, rates."""
