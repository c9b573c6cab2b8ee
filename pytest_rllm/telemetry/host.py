"""Readings of the processors of this machine."""

from __future__ import annotations


class Host:
    """The processors of this machine, read as one."""

    def __init__(self) -> None:
        self._before: tuple[float, float, float] | None = None

    def read(self) -> dict[str, float]:
        """Shares of all processors' time since the last reading; nothing at the first reading.

        Returns:
            ``host_busy``: busy share, of 1. ``host_stolen``: share that other virtual machines on
            the same hardware took, where the kernel reports it; else 0.
        """
        import psutil

        times = psutil.cpu_times()
        # The kernel includes the time of guests in that of users.
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        now = (sum(times) - guests, idle, getattr(times, "steal", 0.0))
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return {}
        whole, idle, stolen = (a - b for a, b in zip(now, before, strict=True))
        return {"host_busy": 1 - idle / whole, "host_stolen": stolen / whole}
