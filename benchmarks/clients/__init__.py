"""Clients that measure serving engines, side by side, against a server that knows the truth."""
