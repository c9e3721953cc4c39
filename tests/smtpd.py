"""For tests that talk SMTP: a server that says, line by line, what is scripted; certificates; a journal that tells."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

from dispatcher.adapters.smtp import SmtpTransport
from dispatcher.mail import Message
from dispatcher.memory import MemoryJournal
from dispatcher.relay import Relay
from dispatcher.reply import Outcome, Result

HOST = "127.0.0.1"


class Peer:
    """The server's end of one connection. A script says what it says and what it expects to hear."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._lines = sock.makefile("rb")
        self.heard: list[str] = []

    def say(self, *lines: str) -> None:
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self, verb: str = "") -> str:
        """The next line, which must begin with this verb."""
        line = self._lines.readline()
        assert line, f"the client hung up where {verb!r} was expected; before: {self.heard}"
        self.heard.append(line.decode().rstrip("\r\n"))
        assert self.heard[-1].upper().startswith(verb.upper()), f"expected {verb!r}, heard {self.heard[-1]!r}"
        return self.heard[-1]

    def greet(self, *extensions: str) -> None:
        self.say("220 scripted ESMTP")
        self.hello(*extensions)

    def hello(self, *extensions: str) -> None:
        self.hear("EHLO")
        lines = ("scripted", *extensions)
        self.say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")

    def until_body(self, recipients: int = 1) -> None:
        """Take MAIL, RCPT and DATA, and ask for the body."""
        for verb in ("MAIL", *["RCPT"] * recipients):
            self.hear(verb)
            self.say("250 ok")
        self.hear("DATA")
        self.say("354 go on")

    def body(self) -> bytes:
        """The body, as it came over the wire, without the final dot."""
        lines = []
        while (line := self._lines.readline()) != b".\r\n":
            assert line, "the client hung up in the body"
            lines.append(line)
        return b"".join(lines)

    def take(self, recipients: int = 1) -> bytes:
        """One whole transaction with a good end."""
        self.until_body(recipients)
        content = self.body()
        self.say("250 2.0.0 taken")
        return content

    def quit(self) -> None:
        self.hear("QUIT")
        self.say("221 bye")

    def secure(self, context: ssl.SSLContext) -> None:
        self.hear("STARTTLS")
        self.say("220 go")
        self._lines.close()
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self._lines = self.sock.makefile("rb")

    def reset_connection(self) -> None:
        """End with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._lines.close()
        self.sock.close()


class ScriptedServer:
    """Plays one script per connection, in the order in which they come. A script that fails fails the test.

    ``connections`` tells how many came; one more than there are scripts is a failure.
    """

    def __init__(self, *scripts: Callable[[Peer], Any], tls: ssl.SSLContext | None = None) -> None:
        self._scripts, self._tls = scripts, tls
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        self.heard: list[list[str]] = []
        self._trouble: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def relay(self, **options: Any) -> Relay:
        """A relay without TLS at this server; no reply takes more than two seconds."""
        given: dict[str, Any] = {"host": HOST, "port": self.port, "tls": "none"}
        given |= {"timeout_command": 2.0, "timeout_final": 2.0}
        return Relay(name="scripted", **(given | options))

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._play(sock)

    def _play(self, sock: socket.socket) -> None:
        sock.settimeout(10)
        peer: Peer | None = None
        try:
            assert self.connections <= len(self._scripts), "one connection more than there are scripts"
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            peer = Peer(sock)
            self._scripts[self.connections - 1](peer)
        except (ConnectionError, ssl.SSLError):
            pass  # the client went: what that means is the test's to say
        except BaseException as error:  # noqa: BLE001 - raised again where the test sees it
            self._trouble.append(error)
        finally:
            if peer is not None:
                self.heard.append(peer.heard)
                peer.close()
            sock.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(15)
        if error is None and self._trouble:
            raise self._trouble[0]


@dataclass(frozen=True)
class Certificates:
    """A certificate authority, and a server's context with a certificate of it."""

    ca_file: str
    context: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path, name: str = HOST) -> "Certificates":
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        return cls(str(folder / "ca.pem"), context)


@dataclass
class TellingJournal(MemoryJournal):
    """Also tells the order of what it was told: ``("begin", message, refused ids)`` and ``("reply", message)``."""

    events: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def begin(self, message: Message, refused: Sequence[tuple[int, Result]]) -> None:
        self.events.append(("begin", message.id, tuple(delivery for delivery, _ in refused)))
        super().begin(message, refused)

    def reply(self, outcome: Outcome) -> None:
        self.events.append(("reply", outcome.message))
        super().reply(outcome)


def message(
    number: int, *recipients: str, content: bytes = b"Subject: hello\r\n\r\nhello\r\n", **options: Any
) -> Message:
    """A message whose deliveries are numbered from ten times its own number."""
    pairs = tuple((number * 10 + i, address) for i, address in enumerate(recipients or ("a@example.com",)))
    return Message(number, options.pop("mail_from", "erp@example.com"), pairs, content, **options)


def deliver(relay: Relay, *messages: Message, journal: TellingJournal | None = None) -> list[Outcome]:
    """Send these over a transport of their own."""
    transport = SmtpTransport(relay, size=1)  # one after the other: scripts are played in their order
    try:
        return list(transport.send(messages, journal or TellingJournal()))
    finally:
        transport.close()


def only(outcomes: list[Outcome]) -> Result:
    """The one result of one message to one recipient."""
    (outcome,) = outcomes
    ((_, result),) = outcome.results
    return result


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and goes to nobody else meanwhile."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield bound.getsockname()[1]
