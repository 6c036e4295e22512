"""The sockets that the receiver listens at: its own, or those that a parent keeps open while it restarts."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

from receiver.connections import BACKLOG
from receiver.errors import MirrorError

FIRST_PASSED = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""
_COOKIE = 57  # SO_COOKIE of Linux: a number that the kernel gives no other socket until it is started again
_COUNTS = struct.Struct("<24xII")  # tcp_info of a socket that listens: how many wait, and how many may
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_HOW = "Pass a stream socket that listens, as a systemd socket unit does."


def passed(fd: int | None) -> list[socket.socket]:
    """Return the sockets that the parent has passed: `fd`, or those of LISTEN_FDS; none is an empty list.

    The variables of systemd are taken away, so that no child takes them for its own. Raises MirrorError.
    """
    pid, number = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS", "")
    if fd is not None:
        return [_adopted(fd)]
    if pid != str(os.getpid()) or not number.isdecimal():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return [_adopted(one) for one in range(FIRST_PASSED, FIRST_PASSED + int(number))]


def opened(host: str, port: int) -> socket.socket:
    """Listen at an address of this machine; port 0 takes a free one. Raises MirrorError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MirrorError(
            f"Nothing can listen at {host} port {port}: {reason}. Choose with --host and --port."
        ) from error


def identity_of(listeners: list[socket.socket]) -> str | None:
    """Return what stays the same while the parent keeps these sockets open; None: the system does not say."""
    try:
        boot = _BOOT.read_text(encoding="ascii").strip()
        cookies = [
            int.from_bytes(one.getsockopt(socket.SOL_SOCKET, _COOKIE, 8), "little") for one in listeners
        ]
    except OSError:
        return None
    return f"{boot}:{','.join(map(str, cookies))}" if cookies else None


def is_overrun(listener: socket.socket) -> bool:
    """Return whether so many connections wait in the kernel that others may have been turned away."""
    try:
        waiting, most = _COUNTS.unpack_from(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64))
    except (OSError, AttributeError, struct.error):
        return False
    return bool(0 < most <= waiting)


def url_of(listener: socket.socket) -> tuple[str, int]:
    """Return the URL of a socket and its port; a Unix socket has the port 0."""
    name = listener.getsockname()
    if not isinstance(name, tuple):
        return f"unix:{os.fsdecode(name)}", 0
    host, port = name[0], int(name[1])
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", port


def _adopted(fd: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        what = "it is not open" if error.errno == errno.EBADF else "it is no socket"
        raise MirrorError(f"The receiver cannot listen at descriptor {fd}: {what}. {_HOW}") from error
    listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.type != socket.SOCK_STREAM or not listens:
        listener.detach()
        raise MirrorError(f"The receiver cannot listen at descriptor {fd}: it does not listen. {_HOW}")
    listener.setblocking(False)
    listener.set_inheritable(False)
    return listener
