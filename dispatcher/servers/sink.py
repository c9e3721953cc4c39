"""A recording SMTP server for the demo and for tests: what it answers 250 to, it has written down.

It speaks ESMTP by aiosmtpd, in a thread of its own, and does wrong by rules. It takes whatever it is given, so it
listens on the loopback interface unless it is told otherwise.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from dispatcher.servers.address import LOOPBACK, listen, reachable
from dispatcher.servers.connection import Connection, Handler
from dispatcher.servers.recording import Received, Recording
from dispatcher.servers.rule import Play, Rule
from dispatcher.servers.script import Script

# ruff: noqa: ARG002 - aiosmtpd calls its authenticator with these arguments

__all__ = ["Rule", "Script", "Sink"]


class Sink:
    """Listens from ``start`` to ``stop``, or as a context manager; what it recorded can be read before and after.

    ``port`` 0 takes a free one. ``record`` is a file of JSON Lines that is appended to (None: memory); ``fsync`` makes
    each acceptance survive a power cut, not just a kill. ``tls`` offers STARTTLS, or is spoken at once if ``implicit``.
    ``users`` (name to password) must log in by PLAIN or LOGIN. ``final_seconds`` is waited after the final dot, before
    a mail is recorded. ``rules`` go before those of ``script``, which has what it needs for them: TLS, users, a seed.
    """

    def __init__(
        self,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        record: Path | None = None,
        fsync: bool = False,
        rules: Sequence[Rule] = (),
        script: Script | None = None,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        users: Mapping[str, str] | None = None,
        final_seconds: float = 0.0,
    ) -> None:
        self.recording = Recording(record, fsync=fsync)
        script = script or Script()
        self._host, self._port = host, port
        self._tls, self._implicit = tls or script.tls, implicit or script.implicit
        self._users = {**script.users, **(users or {})}
        play = Play((*rules, *script.rules), script.seed)
        self._handler = Handler(self.recording, play, login=bool(self._users), final_seconds=final_seconds)
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """How a relay setting names it."""
        host = reachable(self._host)
        if self._implicit:
            return f"smtps://{host}:{self._port}"
        return f"smtp://{host}:{self._port}?tls={'starttls' if self._tls else 'none'}"

    @property
    def struck(self) -> tuple[int, ...]:
        """How often each rule did, in their order."""
        return tuple(self._handler.play.struck)

    def follow(self, script: Script) -> None:
        """Go by these rules from now on, in place of all others, and count from nothing. TLS and users stay."""
        self._handler.play = Play(script.rules, script.seed)

    def start(self) -> None:
        """Listen; returns when connections are taken. Raises OSError when the port is not free."""
        listening = listen(self._host, self._port)
        self._port = listening.getsockname()[1]
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, listening, ready), name=f"sink-{self._port}", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Hang up on everyone and end."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None
        self.recording.close()

    def received(self) -> list[Received]:
        """Everything recorded, in the order of acceptance; with a file also what it held from before."""
        return list(self.recording)

    def messages(self) -> list[EmailMessage]:
        """The mails, parsed."""
        return [received.email for received in self.recording]

    def mailboxes(self) -> dict[str, list[EmailMessage]]:
        """The mails by envelope recipient."""
        found: dict[str, list[EmailMessage]] = {}
        for received in self.recording:
            for address in received.rcpt_to:
                found.setdefault(address, []).append(received.email)
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, loop: asyncio.AbstractEventLoop, listening: socket.socket, ready: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        context = self._tls if self._implicit else None
        server = loop.run_until_complete(loop.create_server(self._connection, sock=listening, ssl=context))
        ready.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(self._hang_up())
        loop.close()

    async def _hang_up(self) -> None:
        for connection in tuple(self._connections):
            if isinstance(connection.transport, asyncio.Transport):
                connection.transport.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connection(self) -> Connection:
        return Connection(
            self._handler,
            self._connections,
            hostname="sink.localhost",
            ident="dispatcher sink",
            enable_SMTPUTF8=True,
            tls_context=None if self._implicit else self._tls,
            require_starttls=self._tls is not None and not self._implicit,
            # aiosmtpd does not see implicit TLS; and without TLS the client is the one that must not log in.
            auth_require_tls=self._tls is not None and not self._implicit,
            authenticator=self._authenticate,
            loop=self._loop,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword
    ) -> AuthResult:
        known = self._users.get(login.login.decode("utf-8", "replace"))
        return AuthResult(success=known is not None and login.password == known.encode(), handled=False)
