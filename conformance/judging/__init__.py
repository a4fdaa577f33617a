"""Answers against exact values: what is owed, how far off it is, and what shows it."""
