"""Clauses examined: trials run and judged, witnesses made small, in one process or several."""
