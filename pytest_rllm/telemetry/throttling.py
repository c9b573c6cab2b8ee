"""What NVML says of a GPU that does not run at its highest clock, and what of it is throttling."""

from __future__ import annotations

THROTTLING = {
    "SwThermalSlowdown": 0x20,
    "HwThermalSlowdown": 0x40,
    "HwPowerBrakeSlowdown": 0x80,
}
"""Bits of NVML's clock event reasons that make a measurement invalid: heat, and a power supply that
asks for less.

A power cap (``SwPowerCap``), an idle GPU (``GpuIdle``), and clocks that somebody set
(``ApplicationsClocksSetting``, ``SyncBoost``, ``DisplayClockSetting``) are how the GPU is meant to
run. ``HwSlowdown`` (0x08) comes with heat and the power brake, and by itself at every change of
clock, as NVML's documentation says: it never counts alone.
"""
MOST = 0.05
"""Share of a run's readings in which a GPU may be throttled. A hardware slowdown halves the clock:
in 5 % of a run that loses 2.5 % of the work, half of the smallest margin of a time."""


def throttled_by(reasons: float) -> tuple[str, ...]:
    """Names of the bits in a reading that are throttling; empty for a GPU that is not throttled."""
    return tuple(name for name, bit in THROTTLING.items() if int(reasons) & bit)
