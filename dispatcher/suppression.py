"""Whom not to write to: the address that people are compared by."""

import unicodedata


def normal(address: str) -> str:
    """An address as audiences and suppressions compare it: as ``address.mailbox`` has it in RCPT, its local part in
    NFC without regard to case."""
    if address.isascii() and not address.endswith("]"):  # nearly every one, and the domain is in lower case already
        return address.lower()
    local, _, domain = address.rpartition("@")
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())
    return f"{folded}@{domain}"
