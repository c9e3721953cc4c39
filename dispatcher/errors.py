"""Every error that the dispatcher raises on purpose.

    DispatcherError                 .temporary: would the same call work later?
    |- ConfigurationError           at start-up only; names the setting
    |- SubmissionError              the producer's fault; names the field
    |  |- InvalidAddress
    |  |- MessageTooLarge
    |  |- IdempotencyConflict
    |  |- EventConflict
    |  |- UnknownTemplate
    |  +- MissingData
    |- AudienceError                a list of recipients, or a filter of one; names the column, the file or the filter
    |- AutomationError              an automation or a kind of event; names file and line, or the field
    |- TemplateError                permanent; names file and line
    |  +- RenderError
    |- TransportError               before any message was taken (temporary)
    |  |- ConnectFailed
    |  |- TlsFailed
    |  |- AuthFailed
    |  |- PoolTimeout
    |  +- LimitReached              a limit of ours; the relay is well
    |- FileFault                    a file of a report that cannot go; names the kind of fault
    |- InvalidToken                 a link or a document of ours that nobody has signed
    +- LedgerError                  temporary
       |- LedgerUnavailable
       |- LeaseLost
       |- JournalFull
       +- NotFound                  permanent

Each hands all that it carries to ``super().__init__``, so that it survives pickling.
"""


class DispatcherError(Exception):
    """The root. ``str(error)`` is one line fit for a person: what was wrong, where, and what to do."""

    temporary = False


class ConfigurationError(DispatcherError):
    """A setting is missing, mistyped or contradicts another one."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(setting, reason)
        self.setting, self.reason = setting, reason

    def __str__(self) -> str:
        return f"{self.setting}: {self.reason}"


class SubmissionError(DispatcherError):
    """A submission cannot be accepted. ``field`` is a path such as ``recipients[3].to``."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


class InvalidAddress(SubmissionError):
    """Not an address that SMTP can carry (RFC 5321 section 4.1.2, RFC 6531)."""


class MessageTooLarge(SubmissionError):
    """The message or one of its parts is over the limit."""


class EventConflict(SubmissionError):
    """An event with this id was emitted before, and was another one."""

    def __init__(self, own: str) -> None:
        super().__init__("id", f"{own!r} was emitted before, with other content")
        self.args = (own,)  # what __init__ takes, so that pickling calls it rightly
        self.own = own


class UnknownTemplate(SubmissionError):
    """No template of this name, or none of this version."""


class MissingData(SubmissionError):
    """The data does not fit the template's JSON Schema."""


class IdempotencyConflict(SubmissionError):
    """The key was used before for other content.

    ``first`` is the public id of the submission that owns the key, ``differs`` the fields that are not the same.
    """

    def __init__(self, key: str, first: str, differs: tuple[str, ...]) -> None:
        super().__init__("idempotency_key", f"{key!r} was used before for other content")
        self.args = (key, first, differs)  # what __init__ takes, so that pickling calls it rightly
        self.key, self.first, self.differs = key, first, differs

    def __str__(self) -> str:
        return (
            f"idempotency_key: {self.key!r} already belongs to submission {self.first}, "
            f"whose content differs in: {', '.join(self.differs)}"
        )


class AudienceError(DispatcherError):
    """A list of recipients cannot be read, made or asked as it was meant; nothing was kept. ``where`` names the file,
    the column, the option or the filter."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where, self.reason = where, reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class AutomationError(DispatcherError):
    """An automation or a kind of event cannot be used as it was written; nothing was kept. ``where`` names the file
    with its line, or the automation with its place."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where, self.reason = where, reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class TemplateError(DispatcherError):
    """A template cannot be used. ``where`` is ``file:line`` as far as it is known."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where, self.reason = where, reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class RenderError(TemplateError):
    """Rendering failed for this mail's data."""


class TransportError(DispatcherError):
    """The relay cannot be used now; no message was taken, so no attempt is spent and nothing bounces."""

    temporary = True

    def __init__(self, relay: str, reason: str) -> None:
        super().__init__(relay, reason)
        self.relay, self.reason = relay, reason

    def __str__(self) -> str:
        return f"relay {self.relay}: {self.reason}"


class ConnectFailed(TransportError):
    """No connection, or no greeting or EHLO that welcomes us."""


class TlsFailed(TransportError):
    """TLS is required and could not be agreed on, or the certificate does not hold."""


class AuthFailed(TransportError):
    """The relay refuses our credentials, or offers no mechanism that we may use."""


class PoolTimeout(TransportError):
    """All connections stayed in use for longer than the wait that was allowed."""


class LimitReached(TransportError):
    """No further connection may be opened now; ``seconds`` until it is worth asking again. The relay is well."""

    def __init__(self, relay: str, reason: str, seconds: float) -> None:
        super().__init__(relay, reason)
        self.args = (relay, reason, seconds)  # what __init__ takes, so that pickling calls it rightly
        self.seconds = seconds


class FileFault(DispatcherError):
    """A file of a report cannot go as it is. ``what`` is the kind of fault, such as ``missing``."""

    def __init__(self, what: str, name: str, reason: str) -> None:
        super().__init__(what, name, reason)
        self.what, self.name, self.reason = what, name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class InvalidToken(DispatcherError):
    """What was asked for by a link, or stands in a document, was not signed by us, or not as it stands there."""


class LedgerError(DispatcherError):
    """The ledger could not do it."""

    temporary = True


class LedgerUnavailable(LedgerError):
    """The database is out of reach, locked, full or read-only; nothing was changed."""


class LeaseLost(LedgerError):
    """The lease has ended and another worker may own these deliveries now."""


class JournalFull(LedgerError):
    """The journal of this process has no room until the ledger has taken what it holds."""


class NotFound(LedgerError):
    """No such submission, message, delivery, reject or audience."""

    temporary = False
