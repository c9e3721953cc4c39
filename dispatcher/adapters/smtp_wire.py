"""One SMTP connection, a command and a reply at a time, on smtplib: how it is opened and what can go wrong on it.

smtplib's own commands blur the phases, hide what a failure was and close at will; only its framing is used here.
"""

import contextlib
import functools
import select
import smtplib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from dispatcher.errors import ConnectFailed, TlsFailed
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import Phase, Reply

_GOODBYE_SECONDS = 2.0


class Silence(Exception):
    """No reply, or none that makes sense, in this phase; the connection is of no use any more.

    ``closed`` tells that the peer ended it, as against a timeout or garbage.
    """

    def __init__(self, phase: Phase, reason: str, closed: bool = False) -> None:
        super().__init__(phase, reason, closed)
        self.phase, self.reason, self.closed = phase, reason, closed

    def __str__(self) -> str:
        return f"{self.reason} at {self.phase}"


class Wire:
    """A connection to a relay. Whatever stands in the way of a sensible reply is a Silence."""

    def __init__(self, sock: socket.socket) -> None:
        # A host would make smtplib connect; without a local name it would ask the DNS for ours, which may take long.
        self._smtp = smtplib.SMTP(local_hostname="")
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
        # Whatever came in the clear after that consent may be an attacker's: it goes with the reader that holds it.
        if self._smtp.file is not None:
            self._smtp.file.close()
            self._smtp.file = None
        self._smtp.esmtp_features.clear()
        self.wait(relay.timeout_connect)
        self._smtp.sock = self._sock = _secured(self._sock, relay)

    def wait(self, seconds: float) -> None:
        """How long every following read or write may take."""
        self._sock.settimeout(seconds)

    def hello(self, name: str | None) -> Reply:
        """Say EHLO and take down what the server offers. The default name is this host's, or its address literal."""
        return self._hear(Phase.EHLO, (2,), lambda: self._smtp.ehlo(name or self.own_name()))

    def ask(self, command: str, phase: Phase, wants: tuple[int, ...] = (2,)) -> Reply:
        """Send a command and read its reply: of a class that is wanted, 4yz or 5yz; any other is a Silence."""
        return self._hear(phase, wants, lambda: self._smtp.docmd(command))

    def read(self, phase: Phase, wants: tuple[int, ...] = (2,)) -> Reply:
        """Read a reply, as ``ask`` does."""
        return self._hear(phase, wants, self._smtp.getreply)

    def send_body(self, content: bytes) -> None:
        """Send the content, dot-stuffed (RFC 5321 section 4.5.2), and the final dot.

        A Silence here means that the final dot did not leave: the system takes bytes in order, and not all of them.
        """
        stuffed = content.replace(b"\n.", b"\n..")
        head, tail = b"." if stuffed.startswith(b".") else b"", b"" if stuffed.endswith(b"\r\n") else b"\r\n"
        try:
            self._smtp.send(b"".join((head, stuffed, tail, b".\r\n")))
        except smtplib.SMTPServerDisconnected as error:
            raise _silence(Phase.DATA, error) from error

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
            raise Silence(phase, "a reply line without end") from error
        reply = Reply.parse(code, text, phase)
        if code // 100 not in (*wants, 4, 5):
            raise Silence(phase, f"not a reply that fits: {reply}"[:200])
        return reply


def words(error: Exception) -> str:
    """The cause in a few words, without numbers of the system."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate does not hold: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _silence(phase: Phase, error: smtplib.SMTPServerDisconnected) -> Silence:
    cause = error.__context__
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
