"""Simulations of the statistics: how often a verdict is wrong where the truth is known."""
