"""The texts of messages: one template for each purpose and language."""
