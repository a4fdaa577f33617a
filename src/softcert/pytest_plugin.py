"""pytest support: one test per clause, in a kernel author's own suite.

pytest loads this module in every session of an environment where softcert is installed, so nothing but
pytest is imported until a test asks for more.
"""
