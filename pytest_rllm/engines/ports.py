"""Whose server listens at a port: what another process serves there is never measured as ours."""

from __future__ import annotations

import psutil

_LOCAL = ("127.0.0.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1")  # noqa: S104 - nothing is bound


def taken(port: int, supervisor: int) -> str | None:
    """Why a port is not that of the server which was told to listen there; None if it is.

    Between the choice of a free port and the start of a server, another process may take it. With
    ``SO_REUSEPORT`` two processes may even share it.

    Args:
        port: of the loopback interface.
        supervisor: process id of the server's supervisor; its descendants are the server.

    Returns:
        A sentence about the other process. None also where the system does not say who listens.
    """
    try:
        listening = [
            (one.laddr.ip, one.pid)
            for one in psutil.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
        ]
    except psutil.Error:
        return None
    try:
        ours = {child.pid for child in psutil.Process(supervisor).children(recursive=True)}
    except psutil.NoSuchProcess:
        ours = set()
    others = [pid for address, pid in listening if address in _LOCAL and pid not in ours]
    if not others:
        return None
    who = "another process" if others[0] is None else f"another process, {others[0]},"
    return f"the port {port}, which it was told to take, was taken by {who} meanwhile: start again"
