"""Doubles that several tests share: synthetic runs, and servers and devices that are none."""
