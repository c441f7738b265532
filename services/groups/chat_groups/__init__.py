"""The chat groups: listed, read with their members, and their link, capacity and name changed."""
