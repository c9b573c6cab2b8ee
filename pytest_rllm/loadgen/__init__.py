"""The load generator: sends a workload to a server and records the responses."""
