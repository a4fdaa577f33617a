"""What every refusal of softcert is, so that a caller can catch all of them at once.

It stands below the rooms, which import nothing else of this package, and imports nothing itself.
"""

from __future__ import annotations


class SoftcertError(ValueError):
    """Something that softcert was given cannot be used; the message is one sentence."""


class SubjectError(SoftcertError):
    """The subject or its contract cannot be used; the message is one clear sentence."""


class RequestError(SoftcertError):
    """The request or a file is wrong; the message is one clear sentence (exit status 2)."""


class OracleError(Exception):
    """Two independent oracles disagree: softcert itself has failed (exit status 3)."""


class UnfinishedError(Exception):
    """A long computation cannot go on; the message is one sentence that says what is kept (exit status 3)."""
