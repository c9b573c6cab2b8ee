"""A mock engine: seeded answers over real HTTP, no model. Nothing measured on it is a finding.

It is for people who write findings, and for our own tests: ``--rllm-engine mock``.
"""
