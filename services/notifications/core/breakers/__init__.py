"""Breakers: while one is open, nothing goes by its template, its number or its account."""
