"""Group admins: the people who run a chat group, what is missing, and the page on which they work."""
