"""The command line: a thin layer over the package's public functions."""

from softcert.cli.group import main

__all__ = ["main"]
