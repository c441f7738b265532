"""The record of who was shown what: whose data a caller has seen, and who has seen a member's."""
