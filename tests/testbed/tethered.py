"""Runs a command that dies with whoever started it: `tethered.py PARENT_PID command…`.

The kernel kills the command (PR_SET_PDEATHSIG survives exec) when the thread that forked it ends, which is why
`process.py` forks from one thread that lives as long as the test run. It is a program of its own because a
`preexec_fn` is unsafe in a process with threads. It runs as a plain file, without site-packages, to start in milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew of the tie
        sys.exit(f"tethered: the parent {parent} is gone")
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
