"""The gate of a project: its configuration, its baselines, and what a change comes to."""
