"""Templates: operators write the texts of messages, register their approvals, look at them and test them."""
