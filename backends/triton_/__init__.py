"""Softmax and attention in Triton: kernels that run on any GPU that Triton knows, and in its interpreter."""
