"""Proofs by exhaustion: where a format is small enough, every input is tried, and the largest error is known.

See docs/explanation/proofs-by-exhaustion.md.
"""

from softcert.conformance.proofs.domains import DOMAINS
from softcert.conformance.proofs.part import Part
from softcert.conformance.proofs.proof import PROOF, prove

__all__ = ["DOMAINS", "PROOF", "Part", "prove"]
