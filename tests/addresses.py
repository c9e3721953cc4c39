"""The standard library's reader of addresses, in the mode in which all its versions agree."""

import email.utils
import inspect
from collections.abc import Sequence

# Since 3.12.6 it is strict by default, and then takes a domain literal such as a@[127.0.0.1] for no address.
_LENIENT = {"strict": False} if "strict" in inspect.signature(email.utils.getaddresses).parameters else {}


def read_addresses(fields: Sequence[str]) -> list[tuple[str, str]]:
    """Display name and address of each mailbox."""
    return email.utils.getaddresses(list(fields), **_LENIENT)
