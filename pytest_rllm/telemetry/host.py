"""The processors of this machine: how busy they are beside a run."""

from __future__ import annotations


class Host:
    """The processors of this machine, all together."""

    def __init__(self) -> None:
        self._before: tuple[float, float, float] | None = None

    def read(self) -> dict[str, float]:
        """Since the last reading: ``host_busy`` (share of 1 of all processors' time) and
        ``host_stolen`` (share that other machines on the same hardware took, where the kernel
        tells); nothing at the first reading."""
        import psutil

        times = psutil.cpu_times()
        # The kernel counts a guest's time within the user's.
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        now = (sum(times) - guests, idle, getattr(times, "steal", 0.0))
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return {}
        whole, idle, stolen = (a - b for a, b in zip(now, before, strict=True))
        return {"host_busy": 1 - idle / whole, "host_stolen": stolen / whole}
