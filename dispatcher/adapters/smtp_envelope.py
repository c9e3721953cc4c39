"""A message's envelope in the words of SMTP (RFC 5321 section 3.3), for what a server offers."""

import re

from dispatcher.mail import Message
from dispatcher.relay import Capabilities
from dispatcher.reply import Phase, Reply

_CONTROL = re.compile("[\r\n\0]")


def commands(message: Message, offered: Capabilities) -> list[str]:
    """MAIL and a RCPT for each recipient, with the parameters that the server knows."""
    mail = f"MAIL FROM:<{message.mail_from}>"
    if offered.offers("SIZE"):
        mail += f" SIZE={len(message.content)}"
    if not message.content.isascii() and offered.offers("8BITMIME"):
        mail += " BODY=8BITMIME"
    if _needs_utf8(message):
        mail += " SMTPUTF8"
    return [mail, *(f"RCPT TO:<{address}>" for _, address in message.rcpt_to)]


def unfit(message: Message, offered: Capabilities) -> Reply | None:
    """The reply that a message would get which the server's limits exclude; None for all others."""
    limit, size = offered.size, len(message.content)
    if limit is not None and size > limit:
        text = f"the message has {size} bytes, the server takes {limit}"
        return Reply(552, text, "5.3.4", Phase.MAIL)
    if _needs_utf8(message) and not offered.offers("SMTPUTF8"):
        return Reply(550, "an address needs SMTPUTF8, which the server does not offer", "5.6.7", Phase.MAIL)
    if _CONTROL.search(_addresses(message)):
        return Reply(553, "a control character in an address", "5.1.3", Phase.MAIL)
    return None


def _addresses(message: Message) -> str:
    return message.mail_from + "".join([address for _, address in message.rcpt_to])


def _needs_utf8(message: Message) -> bool:
    return message.utf8 or not _addresses(message).isascii()
