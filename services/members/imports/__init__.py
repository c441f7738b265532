"""Imports: a file becomes a plan that is shown, and the very plan is applied."""
