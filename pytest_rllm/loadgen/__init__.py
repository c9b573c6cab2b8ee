"""The load generator: sends a workload to a server and records the responses."""

CLIENT_ERROR_S = 1e-3
"""Largest error of a faithful client, in s: the 99th percentile of recorded arrival times less the
times at which the reference server sent, see ``fidelity``."""
