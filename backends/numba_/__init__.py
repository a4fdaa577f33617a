"""Softmax and attention in numba, written for speed: rows of 512-bit vectors, an exponential of its own."""
