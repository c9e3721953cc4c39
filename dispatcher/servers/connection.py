"""One connection to the sink: aiosmtpd's protocol, where a rule may take the place of each step."""

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from dispatcher.reply import Phase
from dispatcher.servers.recording import Received, Recording
from dispatcher.servers.rule import Play, Rule

# ruff: noqa: ARG002, N802 - aiosmtpd calls its hooks by these names, with these arguments

_DONE = "250 2.0.0 Ok"
_MAX_BYTES = 50 * 1024 * 1024
_MAX_LINE = 999  # RFC 5321 section 4.5.3.1.6: 1000 with its end, and one more for the dot of stuffing
_END = b"\r\n.\r\n"
_ATOMS = r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_PLAIN = re.compile(rf"<({_ATOMS}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)>(.*)", re.ASCII)


class Connection(SMTP):
    """Asks for a rule at every step; known to the sink, in ``connections``, while it is open."""

    def __init__(self, handler: "Handler", connections: "set[Connection]", **options: Any) -> None:
        super().__init__(handler, data_size_limit=_MAX_BYTES, **options)
        self._handler, self._connections = handler, connections
        self._body: _Body | None = None
        self._greeting: str | None = None
        self._drip = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self._body is None:
            super().data_received(data)
        elif (rest := self._body.feed(data)) is not None:
            self._body = None
            super().data_received(rest)

    async def push(self, status: str | bytes) -> None:
        if self._greeting is not None:
            status, self._greeting = self._greeting, None
        words = status.encode() if isinstance(status, str) else status
        if not self._drip:
            await super().push(words)
            return
        for byte in words + b"\r\n":
            await self.wait(self._drip)
            self._writer.write(bytes((byte,)))
        if words[3:4] != b"-":  # the last line of the reply (RFC 5321 section 4.2.1)
            self._drip = 0.0

    async def wait(self, seconds: float) -> None:
        """Let so much time pass that does not count as the client's silence."""
        if seconds:
            self._reset_timeout(self._timeout_duration + seconds)
            await asyncio.sleep(seconds)

    def rule(self, phase: Phase, addresses: Sequence[str] = (), body: int | None = None) -> Rule | None:
        """The rule that strikes now, or when so many bytes of the body are in."""
        return self._handler.play.rule(phase, addresses, self, len(self._connections), body)

    async def act(self, rule: Rule | None) -> str | None:
        """Do what the rule says: the reply that takes the usual one's place; None: go on as usual.

        Does not come back when the connection ends with it.
        """
        self._drip = rule.drip if rule else 0.0
        if rule is None:
            return None
        await self.wait(self._handler.play.seconds(rule))
        if not rule.ends:
            return rule.words
        if rule.words is None:
            self._channel.abort()
        else:
            await self.push(rule.words)
            self._channel.close()
        await self.loop.create_future()  # until connection_lost cancels this task
        return None

    @property
    def _channel(self) -> asyncio.Transport:
        """The connection's transport, which is there as long as its task is."""
        return cast("asyncio.Transport", self.transport)

    async def _handle_client(self) -> None:
        try:
            self._greeting = await self.act(self.rule(Phase.CONNECT))
            await super()._handle_client()
        finally:
            self._writer.close()  # aiosmtpd leaves it open when the client goes before it was greeted

    async def smtp_HELO(self, hostname: str) -> None:
        await self._unless(Phase.EHLO, super().smtp_HELO, hostname)

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._unless(Phase.EHLO, super().smtp_EHLO, hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:
        await self._unless(Phase.TLS, super().smtp_STARTTLS, arg)

    async def smtp_AUTH(self, arg: str) -> None:
        await self._unless(Phase.AUTH, super().smtp_AUTH, arg)

    async def _unless(self, phase: Phase, usual: Callable[[str], Awaitable[None]], arg: str) -> None:
        reply = await self.act(self.rule(phase))
        if reply is None:
            await usual(arg)
        else:
            await self.push(reply)

    async def smtp_DATA(self, arg: str) -> None:
        """In place of aiosmtpd's, which reads a body line by line and has no room for a fault within it."""
        if await self.check_helo_needed():
            return
        envelope = cast("Envelope", self.envelope)
        recipients = envelope.rcpt_tos
        if not recipients or arg:
            await self.push("501 Syntax: DATA" if recipients else "503 Error: need RCPT command")
            return
        reply = await self.act(self.rule(Phase.DATA, recipients))
        if reply is None:
            content = await self._content(recipients)
            reply = content if isinstance(content, str) else await self._handler.take(self, envelope, content)
            self.envelope = self._create_envelope()
        await self.push(reply)

    async def _content(self, recipients: Sequence[str]) -> bytes | str:
        """Ask for the body and read it; its content, or the reply to what cannot be taken."""
        self._body = body = _Body(self.loop)
        if self._reader._buffer:  # type: ignore[attr-defined]  # noqa: SLF001 - came with DATA; aiosmtpd looks there, too
            self.data_received(await self._reader.read(_MAX_BYTES))
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        for size in self._handler.play.within:
            if await body.has(size) and (rule := self.rule(Phase.DATA, recipients, size)) is not None:
                self._channel.pause_reading()
                await self.act(rule)
                self._channel.resume_reading()
        await body.has(math.inf)
        return body.content()

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        found = _PLAIN.fullmatch(arg)  # most addresses; the parser of headers takes 0.2 ms for each
        return (found[1], found[2]) if found else super()._getaddr(arg)


class Handler:
    """The hooks that aiosmtpd calls, and what becomes of a mail; for all connections, in the sink's one thread."""

    def __init__(self, recording: Recording, play: Play, *, login: bool, final_seconds: float) -> None:
        self.play = play
        self._recording, self._login, self._final_seconds = recording, login, final_seconds

    async def handle_EHLO(
        self, server: Connection, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_MAIL(
        self, server: Connection, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        if (reply := await server.act(server.rule(Phase.MAIL, [address]))) is not None:
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return _DONE

    async def handle_RCPT(
        self, server: Connection, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if (reply := await server.act(server.rule(Phase.RCPT, [address]))) is not None:
            return reply
        envelope.rcpt_tos.append(address)
        return _DONE

    async def take(self, server: Connection, envelope: Envelope, content: bytes) -> str:
        """After the final dot: record the mail, unless a rule says otherwise."""
        await server.wait(self._final_seconds)
        rule = server.rule(Phase.FINAL, envelope.rcpt_tos)
        accepted = rule is not None and rule.accept
        if accepted:
            self._record(envelope, content)
        if (reply := await server.act(rule)) is not None:
            return reply
        if not accepted:
            self._record(envelope, content)
        return _DONE

    def _record(self, envelope: Envelope, content: bytes) -> None:
        # aiosmtpd spells the null sender <>; an envelope has it empty.
        sender = (envelope.mail_from or "").removeprefix("<>")
        self._recording.append(Received.of(time.time(), sender, tuple(envelope.rcpt_tos), content))


class _Body:
    """What comes after 354, up to the final dot."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bytes = bytearray(b"\r\n")  # so that a dot on the first line is one like all others
        self._size, self._whole = 0, False
        self._wanted: tuple[float, asyncio.Future[None]] | None = None

    def feed(self, data: bytes) -> bytes | None:
        """What is left over after the final dot; None before it has come."""
        start = max(0, len(self._bytes) - len(_END) + 1)
        self._bytes += data
        self._size += len(data)
        end = self._bytes.find(_END, start)
        self._whole = end >= 0
        if self._size > _MAX_BYTES and not self._whole:
            del self._bytes[: -len(_END)]
        if self._wanted and (self._whole or self._size >= self._wanted[0]) and not self._wanted[1].done():
            self._wanted[1].set_result(None)
        if not self._whole:
            return None
        rest = bytes(self._bytes[end + len(_END) :])
        del self._bytes[end + len(_END) - 3 :]
        return rest

    async def has(self, size: float) -> bool:
        """Wait for so many bytes; False when it has ended before."""
        if not self._whole and self._size < size:
            self._wanted = size, self._loop.create_future()
            await self._wanted[1]
        return not self._whole

    def content(self) -> bytes | str:
        """All lines without what stuffing added (RFC 5321 section 4.5.2), or the reply to what is too large."""
        if self._size > _MAX_BYTES:
            return "552 5.3.4 Too much mail data"
        if max(map(len, self._bytes.split(b"\r\n"))) > _MAX_LINE:
            return "500 5.5.2 Line too long (RFC 5321 section 4.5.3.1.6)"
        return bytes(self._bytes.replace(b"\r\n.", b"\r\n")[2:])
