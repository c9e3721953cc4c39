"""Getting in: SMTP AUTH (RFC 4954) by PLAIN (RFC 4616), LOGIN, or XOAUTH2 with a bearer token."""

import base64
import subprocess
from collections.abc import Sequence

from dispatcher.adapters.smtp_wire import Silence, Wire
from dispatcher.errors import AuthFailed, ConnectFailed
from dispatcher.relay import Capabilities, Relay
from dispatcher.reply import Phase, Reply

_WELCOME = 235
_GO_ON = 334
_STEPS = (2, 3)
_TELLING = 6  # letters of a secret that tell something of it


def authenticate(wire: Wire, relay: Relay, offered: Capabilities) -> str | None:
    """Log in if the relay has a user name; the mechanism that worked.

    Raises AuthFailed, which has the server's words but never ours: what they may echo of the secrets is cut out;
    ConnectFailed when there is no answer.
    """
    if relay.username is None:
        return None
    if offered.tls is None and not relay.insecure_auth:
        raise AuthFailed(relay.name, "no password is sent without TLS; use TLS, or allow it by insecure_auth")
    mechanism = _choose(relay, offered)
    secret = _token(relay) if mechanism == "XOAUTH2" else relay.password or ""
    try:
        reply = _exchange(wire, mechanism, relay.username, secret)
    except Silence as silence:
        reason = _without(silence.reason, relay.username, secret)
        raise ConnectFailed(relay.name, f"{relay.display}: AUTH {mechanism}: {reason}") from None
    if reply.code != _WELCOME:
        raise AuthFailed(relay.name, f"{mechanism}: {_without(str(reply), relay.username, secret)}")
    return mechanism


def _choose(relay: Relay, offered: Capabilities) -> str:
    ours = ("XOAUTH2",) if relay.xoauth2_command else ("PLAIN", "LOGIN")
    theirs = next((line.split()[1:] for line in offered.extensions if line.startswith("AUTH")), [])
    for mechanism in ours:
        if mechanism in (name.upper() for name in theirs):
            return mechanism
    raise AuthFailed(relay.name, f"the server offers {_either(theirs)}; needed is {_either(ours)}")


def _either(mechanisms: Sequence[str]) -> str:
    return "AUTH " + " or ".join(mechanisms) if mechanisms else "no AUTH"


def _token(relay: Relay) -> str:
    command = relay.xoauth2_command or ()
    try:
        run = subprocess.run(  # noqa: S603 - the administrator's own command, from the settings
            command, capture_output=True, check=True, text=True, timeout=relay.timeout_command
        )
    except subprocess.CalledProcessError as error:
        # Neither the command line nor what it printed is repeated: both may hold secrets.
        raise AuthFailed(relay.name, f"the xoauth2 command ended with status {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise AuthFailed(relay.name, "the xoauth2 command timed out") from None
    except (OSError, UnicodeError):
        raise AuthFailed(relay.name, "the xoauth2 command could not be run") from None
    return run.stdout.strip()


def _exchange(wire: Wire, mechanism: str, username: str, secret: str) -> Reply:
    reply = wire.ask(f"AUTH {mechanism}{_initial(mechanism, username, secret)}", Phase.AUTH, wants=_STEPS)
    answers = [_base64(username), _base64(secret)] if mechanism == "LOGIN" else [""]
    for answer in answers:
        if reply.code != _GO_ON:
            break
        # XOAUTH2 sends its error as a challenge: the empty answer gets us the code.
        reply = wire.ask(answer, Phase.AUTH, wants=_STEPS)
    return reply


def _initial(mechanism: str, username: str, secret: str) -> str:
    match mechanism:
        case "PLAIN":
            return " " + _base64(f"\0{username}\0{secret}")
        case "XOAUTH2":
            return " " + _base64(f"user={username}\1auth=Bearer {secret}\1\1")
        case _:
            return ""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _without(text: str, username: str, secret: str) -> str:
    ours = (_initial("PLAIN", username, secret), _initial("XOAUTH2", username, secret), _base64(secret), secret)
    for word in filter(None, map(str.strip, ours)):
        text = text.replace(word, "***")
    # A long echo is cut off somewhere, so parts of a secret are looked for as well.
    return " ".join("***" if len(w) >= _TELLING and any(w in word for word in ours) else w for w in text.split())
