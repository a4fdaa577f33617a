"""Runs, witnesses and seedlings as files and back, without losing a bit."""
