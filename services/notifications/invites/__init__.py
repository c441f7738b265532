"""Invites that are sent again to members who have a seat in a chat group and are not in it."""
