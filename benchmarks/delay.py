"""A proxy that lets every byte wait for half a round trip, each way; the TCP handshake itself is not delayed."""

import asyncio
import socket
import threading
from types import TracebackType
from typing import Self

_PIECE = 65536


class DelayProxy:
    """Stands before a loopback port between ``with`` and its end; ``seconds`` is the time of a round trip."""

    def __init__(self, port: int, seconds: float) -> None:
        self._target, self._half = port, seconds / 2
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        """As a relay's setting."""
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._target)
        for source, target in ((reader, onward), (there, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass on what comes, each piece when it is due; several may be on their way."""
        try:
            while piece := await source.read(_PIECE):
                self._loop.call_later(self._half, target.write, piece)
            await asyncio.sleep(self._half)
        except ConnectionError:
            pass  # the other side hung up: so does this one
        finally:
            target.close()
