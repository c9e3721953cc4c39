"""One SMTP connection, a command and a reply at a time, on smtplib: how it is opened and what can go wrong on it.

smtplib's own commands blur the phases, hide what a failure was and close at will; only its framing is used here.
"""

import contextlib
import functools
import re
import select
import smtplib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dispatcher.errors import ConnectFailed, TlsFailed
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import Phase, Reply

_GOODBYE_SECONDS = 2.0
_ENDLESS = "a reply line without end"
_PIECE = 65536
_MAX_LINES = 1000
_LINE_WITH_DOT = re.compile(rb"\n\.")  # found in a third of the time that replace() takes
_MAX_LINE = 8192  # bytes of one line of a reply; RFC 5321 section 4.5.3.1.5 allows 512


class Silence(Exception):
    """No reply, or none that makes sense, in this phase; the connection is of no use any more.

    ``closed`` tells that the peer ended it, as against a timeout or garbage.
    """

    def __init__(self, phase: Phase, reason: str, closed: bool = False) -> None:
        super().__init__(phase, reason, closed)
        self.phase, self.reason, self.closed = phase, reason, closed

    def __str__(self) -> str:
        return f"{self.reason} at {self.phase}"


T = TypeVar("T")
# A call that may have to wait, on a connection that does not: it yields what for (POLLIN or POLLOUT), goes on when that
# is so, or is thrown a TimeoutError when that took too long; what it returns comes in the end.
Waits = Generator[int, None, T]


class Wire:
    """A connection to a relay. Whatever stands in the way of a sensible reply is a Silence."""

    def __init__(self, sock: socket.socket) -> None:
        # A host would make smtplib connect; without a local name it would ask the DNS for ours, which may take long.
        self._smtp = _Smtp(local_hostname="")
        self._smtp.command_encoding = "utf-8"  # for SMTPUTF8 addresses; the same bytes for all others
        self._smtp.sock = self._sock = sock

    @classmethod
    def connect(cls, relay: Relay) -> "Wire":
        """Open the TCP connection, and TLS on it if it is implicit. Raises ConnectFailed, TlsFailed."""
        try:
            sock = socket.create_connection((relay.host, relay.port), relay.timeout_connect)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that IDNA cannot encode
            raise ConnectFailed(relay.name, f"{relay.display}: {words(error)}") from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(_secured(sock, relay) if relay.tls == "implicit" else sock)

    def secure(self, relay: Relay) -> None:
        """Go on under TLS after the server's consent to STARTTLS (RFC 3207). Raises TlsFailed."""
        self._smtp.forget()  # whatever came in the clear after that consent may be an attacker's
        self._smtp.esmtp_features.clear()
        self.wait(relay.timeout_connect)
        self._smtp.sock = self._sock = _secured(self._sock, relay)

    def wait(self, seconds: float) -> None:
        """How long every following read or write may take, here in this call."""
        self._sock.settimeout(seconds)

    def wait_elsewhere(self) -> None:
        """From now on nothing here waits: what would have to is told (see ``Waits``)."""
        if self._sock.gettimeout() != 0:
            self._sock.setblocking(False)

    def fileno(self) -> int:
        """For whoever waits."""
        return self._sock.fileno()

    def hello(self, name: str | None) -> Reply:
        """Say EHLO and take down what the server offers. The default name is this host's, or its address literal."""
        return self._hear(Phase.EHLO, (2,), lambda: self._smtp.ehlo(name or self.own_name()))

    def ask(self, command: str, phase: Phase, wants: tuple[int, ...] = (2,)) -> Reply:
        """Send a command and read its reply: of a class that is wanted, 4yz or 5yz; any other is a Silence."""
        return self._hear(phase, wants, lambda: self._smtp.docmd(command))

    def read(self, phase: Phase, wants: tuple[int, ...] = (2,)) -> Reply:
        """Read a reply, as ``ask`` does."""
        return self._hear(phase, wants, self._smtp.getreply)

    def say(self, *commands: str) -> Waits[None]:
        """Send several commands at once; see ``Waits``. Raises Silence."""
        try:
            yield from self._send(_lines(commands), [0])
        except OSError as error:
            raise _silence(Phase.MAIL, error) from error

    def heard(self, phase: Phase, wants: tuple[int, ...] = (2,)) -> Reply | None:
        """A reply, as ``read`` reads it, if it is here already. Raises Silence."""
        lines = self._smtp.heard
        if lines and not self._smtp.begun and (reply := _short(lines[0], phase)) and reply.code // 100 in wants:
            lines.popleft()
            return reply
        try:
            found = self._smtp.complete()
        except smtplib.SMTPResponseException as error:
            raise Silence(phase, _ENDLESS) from error
        return None if found is None else _fitting(*found, phase, wants)

    def hear(self, phase: Phase, wants: tuple[int, ...] = (2,)) -> Waits[Reply]:
        """Read a reply, as ``read`` does, but leave it to the caller to wait for it."""
        while (reply := self.heard(phase, wants)) is None:
            try:
                if not self._smtp.take_in():
                    yield select.POLLIN
            except OSError as error:
                raise _silence(phase, error) from error
        return reply

    def send_body(self, content: bytes, envelope: Sequence[str] = ()) -> Waits[None]:
        """Send the content, dot-stuffed (RFC 5321 section 4.5.2), the final dot, and the commands of an envelope.

        A Silence in phase DATA means that the final dot did not leave: the system takes bytes in order, and not all of
        them. In phase FINAL it may have left.
        """
        stuffed = _LINE_WITH_DOT.sub(b"\n..", content)
        head, tail = b"." if stuffed.startswith(b".") else b"", b"" if stuffed.endswith(b"\r\n") else b"\r\n"
        commands = _lines(envelope)
        body = b"".join((head, stuffed, tail, b".\r\n", commands))
        sent = [0]
        try:
            yield from self._send(body, sent)
        except OSError as error:
            # Of what is given to TLS at once, a part may have gone before it failed.
            left = sent[0] >= len(body) - len(commands) or (bool(commands) and isinstance(self._sock, ssl.SSLSocket))
            raise _silence(Phase.FINAL if left else Phase.DATA, error) from error

    def _send(self, data: bytes, sent: list[int]) -> Waits[None]:
        """``sent`` counts what the system has taken, also when this raises OSError."""
        view = memoryview(data)
        while sent[0] < len(data):
            try:
                sent[0] += self._sock.send(view[sent[0] :])
            except (BlockingIOError, ssl.SSLWantWriteError):
                yield select.POLLOUT
            except ssl.SSLWantReadError:
                yield select.POLLIN

    def capabilities(self, auth: str | None) -> Capabilities:
        """What the last EHLO offered."""
        offered = self._smtp.esmtp_features
        size = offered.get("size", "")
        return Capabilities(
            extensions=tuple(f"{keyword.upper()} {value.strip()}".strip() for keyword, value in offered.items()),
            size=int(size) or None if size.isdecimal() else None,
            tls=self._sock.version() if isinstance(self._sock, ssl.SSLSocket) else None,
            auth=auth,
        )

    def readable(self) -> bool:
        """Whether bytes or an end of file wait to be read."""
        if self._smtp.heard or self._smtp.cut or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def close(self, *, polite: bool) -> None:
        """Close the connection, after a QUIT if it is sound enough for one."""
        if polite:
            with contextlib.suppress(Silence, OSError):  # the server may have gone first
                self.wait(_GOODBYE_SECONDS)
                self.ask("QUIT", Phase.FINAL)
        self._smtp.close()
        self._sock.close()

    def own_name(self) -> str:
        """The name of this host if it is a full one, else the address literal of our end (RFC 5321 section 4.1.4)."""
        name = socket.gethostname()
        if "." in name and name.isascii():
            return name
        address = self._sock.getsockname()[0].partition("%")[0]
        return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

    def _hear(self, phase: Phase, wants: tuple[int, ...], call: Callable[[], tuple[int, bytes]]) -> Reply:
        try:
            code, text = call()
        except smtplib.SMTPServerDisconnected as error:
            raise _silence(phase, error) from error
        except smtplib.SMTPResponseException as error:  # smtplib found a line of more than 8 KiB
            raise Silence(phase, _ENDLESS) from error
        return _fitting(code, text, phase, wants)


def _lines(commands: Sequence[str]) -> bytes:
    return "\r\n".join([*commands, ""]).encode()


def _fitting(code: int, text: bytes, phase: Phase, wants: tuple[int, ...]) -> Reply:
    reply = _reply(code, text, phase)
    if code // 100 not in (*wants, 4, 5):
        raise Silence(phase, f"not a reply that fits: {reply}"[:200])
    return reply


@functools.lru_cache(maxsize=256)
def _short(line: bytes, phase: Phase) -> Reply | None:
    """The reply that is one line, as nearly all are; None for any other line."""
    text, code, more = _parted(line)
    return None if code < 0 or more or len(line) > _MAX_LINE else Reply.parse(code, text, phase)


@functools.lru_cache(maxsize=256)
def _reply(code: int, text: bytes, phase: Phase) -> Reply:
    """Most replies of a server are the same few."""
    return Reply.parse(code, text, phase)


def words(error: Exception) -> str:
    """The cause in a few words, without numbers of the system."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate does not hold: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _parted(line: bytes) -> tuple[bytes, int, bool]:
    """The text of a line, its code (-1: none), and whether another line follows."""
    code = int(line[:3]) if line[:3].isdigit() else -1
    return line[4:].strip(b" \t\r\n"), code, code >= 0 and line[3:4] == b"-"


class _Smtp(smtplib.SMTP):
    """smtplib with a reader of its own, which may be asked whether a reply is there."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.heard: deque[bytes] = deque()  # whole lines without their LF
        self.cut = b""  # the beginning of the next one
        self.begun: list[bytes] = []  # lines of a reply that is not whole yet

    def forget(self) -> None:
        """Whatever came until now was not said."""
        self.heard.clear()
        self.cut = b""

    def getreply(self) -> tuple[int, bytes]:
        """Wait for a reply, as smtplib does."""
        while (found := self.complete()) is None:
            try:
                self.take_in()
            except smtplib.SMTPServerDisconnected:
                raise
            except OSError as error:
                raise smtplib.SMTPServerDisconnected(str(error)) from error
        return found

    def complete(self) -> tuple[int, bytes] | None:
        """A reply if it is here as a whole: its code (-1: none), and its lines joined by LF (RFC 5321 section 4.2)."""
        while self.heard:
            line = self.heard.popleft()
            if len(line) > _MAX_LINE or len(self.begun) > _MAX_LINES:
                raise smtplib.SMTPResponseException(500, "Line too long.")
            text, code, more = _parted(line)
            if more or self.begun:
                self.begun.append(text)
                if more:
                    continue
                text, self.begun = b"\n".join(self.begun), []
            return code, text
        if len(self.cut) > _MAX_LINE:
            raise smtplib.SMTPResponseException(500, "Line too long.")
        return None

    def take_in(self) -> bool:
        """Take in what has come; whether anything has. Raises OSError; SMTPServerDisconnected is one."""
        try:
            piece = self.sock.recv(_PIECE) if self.sock else b""
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        if not piece:
            raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed")
        *lines, self.cut = (self.cut + piece).split(b"\n")
        self.heard.extend(lines)
        return True


def _silence(phase: Phase, error: OSError) -> Silence:
    cause = error.__context__ if isinstance(error, smtplib.SMTPServerDisconnected) else error
    if isinstance(cause, TimeoutError):
        return Silence(phase, "timed out")
    return Silence(phase, words(cause) if isinstance(cause, OSError) else "connection closed", closed=True)


def _secured(sock: socket.socket, relay: Relay) -> socket.socket:
    try:
        changed = Path(relay.ca_file).stat().st_mtime_ns if relay.ca_file else 0
        return _context(relay.ca_file, changed).wrap_socket(sock, server_hostname=relay.host)
    except (OSError, ValueError) as error:
        sock.close()
        where = f"ca_file {relay.ca_file}" if isinstance(error, FileNotFoundError) else relay.display
        raise TlsFailed(relay.name, f"{where}: {words(error)}") from error


@functools.lru_cache(maxsize=16)
def _context(ca_file: str | None, changed: int) -> ssl.SSLContext:  # noqa: ARG001 - a renewed file is read again
    """Loading the system's authorities takes longer than a handshake: once per process is enough."""
    return ssl.create_default_context(cafile=ca_file)
