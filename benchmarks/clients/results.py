"""What was measured: one JSON object per line while it goes on, one file when it is done."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pytest_rllm.telemetry.gpu import Gpu
from pytest_rllm.telemetry.hardware import hardware_id

Item = dict[str, Any]
"""``part``, ``client``, ``case`` and ``repeat`` name it; the rest are its figures."""


class Results:
    """Items in a file; one that is there is not measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.is_file() else []
        self.items: list[Item] = [json.loads(line) for line in lines]

    def has(self, **names: Any) -> bool:
        return any(self.of(**names))

    def of(self, **names: Any) -> Iterator[Item]:
        """Items whose names are these."""
        for item in self.items:
            if all(item.get(name) == value for name, value in names.items()):
                yield item

    def add(self, item: Item) -> None:
        self.items.append(item)
        with self.path.open("a") as file:
            file.write(json.dumps(rounded(item)) + "\n")


def rounded(value: Any) -> Any:
    """The same with six significant digits; what is not a number becomes None."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if value == value else None
    return value


def machine() -> dict[str, Any]:
    """Where it was measured."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "hardware": hardware_id(Gpu(), on_cpu=True),
        "cpu": names[0] if names else platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
    }
