"""The fast certified path: double-word arithmetic compiled by numba, with proven error bounds."""
