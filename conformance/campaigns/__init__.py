"""Campaigns: work that is cut into independent slices, run anywhere, and never loses what it found."""
