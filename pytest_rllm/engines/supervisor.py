"""Runs one server and lets nothing of it outlive the parent: ``python supervisor.py CMD ARG ...``.

The supervisor starts the command in a session of its own and adopts what the command orphans. When
the command ends, or when standard input closes (the parent closed it, or died, however suddenly),
every process of the command is told to end, and killed when it does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

import psutil

GRACE_S = 8.0
_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Watch ``argv`` until it or the parent is gone.

    Returns:
        The command's exit status; 128 and the signal's number where a signal ended it, as a shell
        says it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the parent's to handle
    signal.signal(signal.SIGTERM, lambda *_: os.close(0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        server = psutil.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"cannot start {argv[0]}: {error}", file=sys.stderr)
        return 127
    while server.poll() is None and _parent_lives(within_s=0.2):
        pass
    _end_all(GRACE_S)
    status = server.wait()
    if status is None:  # ended, and waited for, among the others
        return 0
    return 128 - int(status) if status < 0 else int(status)


def _parent_lives(within_s: float) -> bool:
    try:
        readable, _, _ = select.select([0], [], [], within_s)
        return not readable or bool(os.read(0, 1))
    except (OSError, ValueError):
        return False


def _end_all(grace_s: float) -> None:
    """TERM to all descendants, KILL to what stays longer than the grace or was born meanwhile."""
    me = psutil.Process()
    left = me.children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(left, timeout=grace_s)
    while left := me.children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
