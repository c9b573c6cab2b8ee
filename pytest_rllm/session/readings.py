"""What is read of this machine beside a run: its processors, and the GPUs that the servers use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from urllib.parse import urlsplit

from ..engines.base import Endpoint
from ..engines.server import Server
from ..telemetry.gpu import Gpu
from ..telemetry.host import Host
from ..telemetry.neighbours import Neighbours
from ..telemetry.reference import CpuReference, Reference, TorchReference


def on_this_machine(url: str | None) -> bool:
    """Whether a server runs here: it was started here, or its address is this machine's own."""
    host = urlsplit(url).hostname if url else None
    return url is None or host in ("localhost", "127.0.0.1", "::1")


def serves_on_gpu_here(engine: Endpoint) -> bool:
    """Whether an engine may serve on a GPU of this machine: only then do its readings matter."""
    return not engine.on_cpu and on_this_machine(engine.url)


class Readings:
    """Reads the machine for all runs of a session.

    Args:
        gpu: the GPUs of this machine; they are asked only where an engine may serve on one.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._host = gpu, Host()
        self._references: dict[tuple[tuple[str, str | None], ...], TorchReference] = {}

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self._gpu)

    @cached_property
    def _cpu_reference(self) -> CpuReference:
        return CpuReference()

    def reference(self, server: Server) -> Reference:
        """The load that is timed beside a server's runs: on the first GPU that the server sees
        where it may serve on one, else on the processors."""
        if server.engine.on_cpu or self._gpu.why_not:
            return self._cpu_reference
        seen = server.placement.variables if server.placement else {}
        key = tuple(sorted(seen.items()))
        return self._references.setdefault(key, TorchReference(variables=seen))

    def close(self) -> None:
        """End the processes of the references."""
        for reference in self._references.values():
            reference.close()

    def before_servers(self, engines: Iterable[Endpoint]) -> None:
        """See who is on the GPUs; the first time that engines are about to serve there."""
        if any(map(serves_on_gpu_here, engines)):
            self._neighbours.look_before()

    def servers_are_up(self, engines: Iterable[Endpoint]) -> None:
        """See which GPUs the servers of these engines took, and how much of them."""
        if any(map(serves_on_gpu_here, engines)):
            self._neighbours.servers_are_up()

    def monitor(self, engines: Iterable[Endpoint]) -> Callable[[], dict[str, float]]:
        """What takes readings during a run of these engines: of the processors, and of the GPUs
        that they serve on."""
        if not any(map(serves_on_gpu_here, engines)):
            return self._host.read
        devices = self._neighbours.devices
        return lambda: self._host.read() | self._gpu.read(devices)

    def strangers(self, engine: Endpoint, up: Iterable[Endpoint]) -> dict[str, str]:
        """Who else is on the GPUs of an engine, in words, by GPU; nobody who matters where it
        serves on none here.

        Args:
            engine: of the run.
            up: the engines of all servers that are up.
        """
        if not serves_on_gpu_here(engine):
            return {}
        urls = [other.url for other in up if serves_on_gpu_here(other)]
        attached = any(url is not None for url in urls)
        return self._neighbours.strangers(started=None in urls, attached=attached)
