"""The search for the input that comes nearest to the bound: movers, a population, a bandit, its state."""
