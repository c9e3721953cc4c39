"""Reading an address from text: one mailbox (RFC 5322 section 3.4) that SMTP can carry (RFC 5321, RFC 6531)."""

import re
import unicodedata
from functools import lru_cache

import email_validator

from dispatcher.errors import InvalidAddress
from dispatcher.mail import Address

MAX_DISPLAY = 500  # characters
MAX_TEXT = 2000  # characters: what is longer is a mistake, not an address; quoting it all over stays below
MAX_LOCAL = 64  # octets, RFC 5321 section 4.5.3.1.1
MAX_SPEC = 254  # octets, RFC 5321 section 4.5.3.1.3 less the angle brackets
MAX_SHOWN = 80  # characters of it in an error

# Nearly every address is this: an ASCII dot-atom and a domain of plain labels. No "?" here, so that what looks like
# an encoded word takes the long way; no "--", so that IDNA labels do.
_PLAIN = re.compile(
    r"(?=[^@]{1,64}@)([A-Za-z0-9!#$%&'*+/=^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+)*)"
    r"@((?:(?=[^.]{1,63}\.)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\.)+[A-Za-z]{2,63})"
)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NAMED = re.compile(rf'((?:{_QUOTED}|[^"\\<>@,;])*)<((?:{_QUOTED}|[^"\\<>])*)>')
_QUOTED_STRING = re.compile(_QUOTED)
_PAIR = re.compile(r"\\(.)")
# The library refuses special-use names (RFC 6761) and single labels whatever it is told, but a company's own network
# has them. It is shown the name below this one, which takes away the reason and leaves every other check.
_STAND_IN = ".example"


def parse(text: str, field: str) -> Address:
    """Read one mailbox: ``local@domain`` or ``Display <local@domain>``.

    The display name may be in any script and need not be quoted unless it holds one of ``, ; < > @``, a quote or a
    backslash; an encoded word (RFC 2047) in it is text like any other. The domain becomes A-labels in lower case, or
    an address literal; the local part is unquoted and in Unicode NFC (RFC 6532 section 3.1), its case is kept.

    Raises InvalidAddress, which names ``field``, for anything else, a list of several addresses included.
    """
    if len(text) <= MAX_SPEC and (found := _PLAIN.fullmatch(text)):
        return Address(found[1], found[2].lower())
    try:
        display, spec = _split(text)
        if len(spec) <= MAX_SPEC and (found := _PLAIN.fullmatch(spec)):
            return Address(found[1], found[2].lower(), display)
        local, domain = _checked(spec)
    except ValueError as error:  # the library's EmailNotValidError is one too
        raise InvalidAddress(field, f"{_shown(text)} is not an email address: {error}") from None
    return Address(local, domain, display)


def mailbox(text: str, field: str) -> tuple[str, str]:
    """One mailbox as it stands in RCPT and as it stands in a header. Raises InvalidAddress."""
    if len(text) <= MAX_SPEC and (found := _PLAIN.fullmatch(text)):  # as in `parse`: both are what it says already
        spec = f"{found[1]}@{found[2].lower()}"
        return spec, spec
    address = parse(text, field)
    return address.spec, str(address)


@lru_cache(maxsize=256)
def parse_sender(text: str, field: str) -> Address:
    """As ``parse``, for addresses that come again with every mail: senders are few."""
    return parse(text, field)


def envelope(address: Address) -> str:
    """The address as MAIL and RCPT take it: without its display name."""
    return address.spec


def _split(text: str) -> tuple[str, str]:
    """The display name, unquoted, and the address between the angle brackets. Raises ValueError."""
    if not text.strip():
        raise ValueError("it is empty")
    if len(text) > MAX_TEXT:
        raise ValueError(f"it is longer than {MAX_TEXT} characters")
    if found := _CONTROL.search(text):
        raise ValueError(f"it holds the control character U+{ord(found[0]):04X}")
    text = text.strip(" ")
    bare = _QUOTED_STRING.sub("", text)
    if "," in bare or ";" in bare:
        raise ValueError('it holds "," or ";": give one address each, and quote such a display name')
    if "<" not in bare and ">" not in bare:
        return "", text
    if not (named := _NAMED.fullmatch(text)):
        raise ValueError('write "Name" <local@domain>')
    display = _QUOTED_STRING.sub(lambda quoted: _unquoted(quoted[0]), named[1]).strip(" ")
    if len(display) > MAX_DISPLAY:
        raise ValueError(f"its display name is longer than {MAX_DISPLAY} characters")
    return unicodedata.normalize("NFC", display), named[2].strip(" ")


def _checked(spec: str) -> tuple[str, str]:
    """The local part, unquoted, and the domain in ASCII. Raises ValueError."""
    written, at, name = spec.rpartition("@")
    if not at:
        raise ValueError('there is no "@"')
    last = name.rpartition(".")[2].lower()
    if last.isdigit():
        raise ValueError("an IP address stands in brackets, as in [192.0.2.1]")
    hidden = not name.startswith("[") and (last == name.lower() or last in email_validator.SPECIAL_USE_DOMAIN_NAMES)
    seen = email_validator.validate_email(
        f"{written}@{name}{_STAND_IN}" if hidden and name else spec,
        allow_smtputf8=True,
        allow_quoted_local=True,
        allow_domain_literal=True,
        check_deliverability=False,
    )
    domain = seen.ascii_domain.removesuffix(_STAND_IN) if hidden else seen.ascii_domain
    local = unicodedata.normalize("NFC", _unquoted(written))
    if "=?" in local:  # gateways that decode it there deliver to someone else
        raise ValueError("an encoded word cannot stand before the @")
    _check_length(local, domain)
    return local, domain if domain.startswith("[") else domain.lower()


def _check_length(local: str, domain: str) -> None:
    if len(local.encode()) > MAX_LOCAL:
        raise ValueError(f"more than {MAX_LOCAL} octets before the @")
    if len(Address(local, domain).spec.encode()) > MAX_SPEC:
        raise ValueError(f"more than {MAX_SPEC} octets")


def _unquoted(text: str) -> str:
    return _PAIR.sub(r"\1", text[1:-1]) if text.startswith('"') else text


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
