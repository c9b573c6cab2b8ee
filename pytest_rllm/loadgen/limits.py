"""How far the client may distort what it measures."""

CLIENT_ERROR_S = 1e-3
"""Largest error of a faithful client, in s: the 99th percentile of recorded arrival times less the
times at which the reference server sent, see ``fidelity``."""
