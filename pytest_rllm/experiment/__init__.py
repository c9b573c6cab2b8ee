"""Descriptions of what is measured: pure values, nothing is started or sent here."""
