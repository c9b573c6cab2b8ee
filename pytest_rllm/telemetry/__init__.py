"""Readings of the machine beside a run: GPUs, processors, and the name of the hardware."""
