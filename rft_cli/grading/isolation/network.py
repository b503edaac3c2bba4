"""In a worker: takes the network away, where the kernel can. It holds for everything the process does and starts."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_NEW_USER, _NEW_NETWORK = 0x1000_0000, 0x4000_0000


def leave_network() -> bool:
    """Move this process, which must have one thread, into a network namespace of its own without any device.

    False where the kernel refuses (no user namespaces, or not Linux).
    """
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False
    # Without these the process would be "nobody" to itself. What it may do with files is unchanged.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        try:
            Path("/proc/self", name).write_text(text)
        except OSError:
            continue
    return True
