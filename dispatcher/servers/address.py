"""Where a server listens, and how it is reached from this machine."""

import socket

LOOPBACK = "127.0.0.1"
_ALL = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - what "all addresses" means to somebody on this machine


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that does not block; ``port`` 0 takes a free one. Raises OSError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=512)
    listening.setblocking(False)
    return listening


def reachable(host: str) -> str:
    """The host for a URL of a server that listens on ``host``."""
    host = _ALL.get(host, host)
    return f"[{host}]" if ":" in host else host
