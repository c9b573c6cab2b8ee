"""Sends a workload to an engine and records what comes back."""
