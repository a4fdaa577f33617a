"""Campaigns: long computations in slices, on any executor, whose results outlive whatever is killed."""
