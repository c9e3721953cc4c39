"""A recording SMTP server for the demo and for tests: what it answers 250 to, it has written down.

It speaks ESMTP by aiosmtpd, in a thread of its own, and refuses or defers by rules. It takes whatever it is given, so
it listens on the loopback interface unless it is told otherwise.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from dispatcher.reply import Phase
from dispatcher.servers.address import LOOPBACK, listen, reachable
from dispatcher.servers.recording import Received, Recording

# ruff: noqa: ARG002, N802 - aiosmtpd calls its hooks by these names, with these arguments

_DONE = "250 2.0.0 Ok"
_MAX_BYTES = 50 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """What to answer instead of a welcome: to which address, at which step, how often.

    ``address`` is a pattern such as ``gone@*``, compared with the sender at MAIL, the recipient at RCPT, and each
    recipient at DATA and FINAL. ``after``: not for the first so many of an address; ``times``: then only so often
    (None: always).
    """

    address: str
    reply: str
    phase: Phase = Phase.RCPT
    times: int | None = None
    after: int = 0

    @classmethod
    def refuse(cls, address: str) -> "Rule":
        return cls(address, "550 5.1.1 No such user here")

    @classmethod
    def defer(cls, address: str, times: int = 1) -> "Rule":
        return cls(address, "451 4.7.1 Greylisted, try again later", times=times)


class Sink:
    """Listens from ``start`` to ``stop``, or as a context manager; what it recorded can be read before and after.

    ``port`` 0 takes a free one. ``record`` is a file of JSON Lines that is appended to (None: memory); ``fsync`` makes
    each acceptance survive a power cut, not just a kill. ``tls`` offers STARTTLS, or is spoken at once if ``implicit``.
    ``users`` (name to password) must log in by PLAIN or LOGIN. ``final_seconds`` delays the reply after the final dot.
    """

    def __init__(
        self,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        record: Path | None = None,
        fsync: bool = False,
        rules: Sequence[Rule] = (),
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        users: Mapping[str, str] | None = None,
        final_seconds: float = 0.0,
    ) -> None:
        self.recording = Recording(record, fsync=fsync)
        self._host, self._port, self._tls, self._implicit = host, port, tls, implicit
        self._users = dict(users or {})
        self._handler = _Handler(self.recording, rules, bool(users), final_seconds)
        self._connections: set[_Connection] = set()
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

    def _connection(self) -> "_Connection":
        return _Connection(
            self._handler,
            self._connections,
            hostname="sink.localhost",
            ident="dispatcher sink",
            data_size_limit=_MAX_BYTES,
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


class _Connection(SMTP):
    """aiosmtpd's protocol with a refusal before 354, and known to the sink while it is open."""

    def __init__(self, handler: "_Handler", connections: "set[_Connection]", **options: Any) -> None:
        super().__init__(handler, **options)
        self._handler, self._connections = handler, connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:
        refusal = self._handler.answer(Phase.DATA, self.envelope.rcpt_tos if self.envelope else ())
        if refusal is None:
            await super().smtp_DATA(arg)
        else:
            await self.push(refusal)


class _Handler:
    """The hooks that aiosmtpd calls; all of them in the sink's one thread."""

    def __init__(self, recording: Recording, rules: Sequence[Rule], login: bool, final_seconds: float) -> None:
        self._recording, self._rules, self._login, self._final_seconds = recording, rules, login, final_seconds
        self._answered: Counter[tuple[Rule, str]] = Counter()

    def answer(self, phase: Phase, addresses: Sequence[str]) -> str | None:
        """The reply of the first rule that holds for one of these addresses now."""
        for rule in self._rules:
            for address in addresses:
                if rule.phase is phase and fnmatchcase(address.lower(), rule.address.lower()):
                    self._answered[rule, address] += 1
                    turn = self._answered[rule, address] - rule.after
                    if turn > 0 and (rule.times is None or turn <= rule.times):
                        return rule.reply
        return None

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        if (refusal := self.answer(Phase.MAIL, [address])) is not None:
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return _DONE

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if (refusal := self.answer(Phase.RCPT, [address])) is not None:
            return refusal
        envelope.rcpt_tos.append(address)
        return _DONE

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self._final_seconds:
            await asyncio.sleep(self._final_seconds)
        if (refusal := self.answer(Phase.FINAL, envelope.rcpt_tos)) is not None:
            return refusal
        # aiosmtpd spells the null sender <>; an envelope has it empty.
        sender = (envelope.mail_from or "").removeprefix("<>")
        content = bytes(envelope.original_content or b"")
        self._recording.append(Received.of(time.time(), sender, tuple(envelope.rcpt_tos), content))
        return _DONE
