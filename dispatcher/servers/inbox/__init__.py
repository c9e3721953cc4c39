"""The sink's inbox: what was recorded, to look at in a browser."""

import asyncio
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tornado.httpserver import HTTPServer

from dispatcher.servers.address import LOOPBACK, listen, reachable
from dispatcher.servers.inbox.listing import Listing
from dispatcher.servers.inbox.pages import application

_STEP, _LOOK_SECONDS = 200, 0.2


class Inbox:
    """Serves the record at ``record`` from ``start`` to ``stop``, in a thread of its own: a page is never in the way
    of a mail. ``port`` 0 takes a free one; ``relay_url`` is what the empty inbox tells people to send to."""

    def __init__(self, record: Path, *, host: str = LOOPBACK, port: int = 0, relay_url: str = "") -> None:
        self._record, self._host, self._port, self._relay_url = record, host, port, relay_url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where a browser of this machine finds it."""
        return f"http://{reachable(self._host)}:{self._port}"

    def start(self) -> None:
        """Listen; returns when pages are served. Raises OSError when the port is not free, or there is no record;
        ValueError when that is no sink's."""
        listing = Listing(self._record)
        listening = listen(self._host, self._port)
        self._port = listening.getsockname()[1]
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, listing, listening, ready), name=f"inbox-{self._port}", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Serve no more."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(
        self, loop: asyncio.AbstractEventLoop, listing: Listing, listening: socket.socket, ready: threading.Event
    ) -> None:
        asyncio.set_event_loop(loop)
        server = HTTPServer(application(listing, self._relay_url))
        loop.call_soon(server.add_socket, listening)
        following = loop.create_task(_follow(listing))
        loop.call_soon(ready.set)
        loop.run_forever()
        following.cancel()
        server.stop()
        loop.run_until_complete(asyncio.gather(following, server.close_all_connections(), return_exceptions=True))
        loop.close()
        listing.close()


async def _follow(listing: Listing) -> None:
    """Take in what is recorded, in small steps, so that pages are served meanwhile."""
    while True:  # noqa: ASYNC110 - the file grows, no event says so: another process may write it
        await asyncio.sleep(0 if listing.follow(_STEP) == _STEP else _LOOK_SECONDS)
