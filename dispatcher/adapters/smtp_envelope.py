"""A message's envelope in the words of SMTP (RFC 5321 section 3.3), for what a server offers."""

import re

from dispatcher.mail import Message
from dispatcher.relay import Capabilities
from dispatcher.reply import Phase, Reply

_CONTROL = re.compile("[\r\n\0]")


def envelope(message: Message, offered: Capabilities) -> list[str] | Reply:
    """MAIL and a RCPT for each recipient, with the parameters that the server knows; or the reply that a message would
    get which the server's limits exclude."""
    size = len(message.content)
    if offered.size is not None and size > offered.size:
        return Reply(552, f"the message has {size} bytes, the server takes {offered.size}", "5.3.4", Phase.MAIL)
    recipients = [f"RCPT TO:<{address}>" for _, address in message.rcpt_to]
    addresses = message.mail_from + "".join(recipients)
    utf8 = message.utf8 or not addresses.isascii()
    if utf8 and not offered.offers("SMTPUTF8"):
        return Reply(550, "an address needs SMTPUTF8, which the server does not offer", "5.6.7", Phase.MAIL)
    if _CONTROL.search(addresses):
        return Reply(553, "a control character in an address", "5.1.3", Phase.MAIL)
    mail = f"MAIL FROM:<{message.mail_from}>"
    if offered.offers("SIZE"):
        mail += f" SIZE={size}"
    if not message.content.isascii() and offered.offers("8BITMIME"):
        mail += " BODY=8BITMIME"
    if utf8:
        mail += " SMTPUTF8"
    return [mail, *recipients]
