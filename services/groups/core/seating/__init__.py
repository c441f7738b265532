"""Seating: which seats each member gets, and the transaction that gives them."""
