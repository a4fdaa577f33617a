"""Where cases come from: directed seedlings, families, and Hypothesis strategies."""
