"""A report job as a value: what goes to whom with which files, what its check finds, and where it stands.

A *report* is one submission with a message for each recipient. Its rows are added in chunks, and it is held until the
last one is there: it goes as a whole, or not at all.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from dispatcher import naming
from dispatcher.delivery import State
from dispatcher.errors import SubmissionError

RESEND = "resend_of"  # the first report, in the spec of a resend; the number there, in the content of its mails
LINKED = "linked"  # in the content of its mails: files as they were when they were looked at, which a link stands for
MAX_FINDINGS = 20  # of a kind that are named; the others are counted
_TEXTS = frozenset({"files", "attach", "reply_to", "tags"})
_OBJECTS = frozenset({"data", "headers"})
_FLAGS = frozenset({"allow_missing"})
_SHARED = (
    *("template", "subject", "text", "html", "locale", "from", "mail_from", "reply_to", "headers", "relay", "tags"),
    *("data", "list"),
)


class ReportState(enum.StrEnum):
    """``taking``: its rows are being added, and none of its mails goes yet; ``finished``: none of them is live;
    ``cancelled``: by hand, what was not sent by then does not go."""

    TAKING = "taking"
    SENDING = "sending"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class TooLarge(enum.StrEnum):
    """What becomes of a recipient whose files do not fit into a mail."""

    REFUSE = "refuse"
    LINK = "link"
    SPLIT = "split"


@dataclass(frozen=True, slots=True)
class ReportSpec:
    """What a person asks for.

    ``files``: patterns such as ``{customer}.pdf`` inside of ``folder``, filled with what the manifest says of each
    recipient, beside those that its column ``file`` names; ``attach``: files for all. ``renderer`` makes a file, called
    ``filename``, when the mail is about to be sent. ``under`` puts a row's values into this object of the data.
    ``link``: the pattern of a URL, for files that are ``too_large``.
    """

    template: str | None = None
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    under: str | None = None
    locale: str | None = None
    from_: str | None = None
    mail_from: str | None = None
    reply_to: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    relay: str | None = None
    list: str | None = None
    tags: Sequence[str] = ()
    folder: str | None = None
    files: Sequence[str] = ()
    attach: Sequence[str] = ()
    renderer: str | None = None
    filename: str | None = None
    allow_missing: bool = False
    too_large: str = TooLarge.REFUSE.value
    link: str | None = None
    owner: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON, without what was left alone."""
        found = {f.name.rstrip("_"): getattr(self, f.name) for f in fields(self)}
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
        return {name: value for name, value in found.items() if value not in (None, (), {}, [], False)}

    def shared(self) -> dict[str, Any]:
        """The part of a submission's JSON that all recipients share, but for files."""
        document = self.document()
        return {name: document[name] for name in _SHARED if name in document}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "ReportSpec":
        """Read what ``document`` wrote. Raises SubmissionError naming the field."""
        known = {f.name.rstrip("_"): f.name for f in fields(cls)}
        if unknown := sorted(document.keys() - known.keys()):
            raise SubmissionError(unknown[0], f"unknown field; known are {', '.join(sorted(known))}")
        for name, value in document.items():
            _check_kind(name, value)
        made = cls(**{known[name]: value for name, value in document.items()})
        made.check()
        return made

    def check(self) -> None:
        """Refuse what can be seen to be wrong without the manifest. Raises SubmissionError."""
        _check_too_large(self)
        for name in ("subject", "text", "html"):
            if fault := naming.literal_fault(getattr(self, name) or ""):
                raise SubmissionError(name, fault)
        if (self.renderer is None) != (self.filename is None):
            raise SubmissionError("filename", "goes with a renderer, which needs one")
        if self.filename is not None and (fault := naming.part_fault(self.filename)):
            raise SubmissionError("filename", fault)
        if self.under is not None and not self.under.isidentifier():
            raise SubmissionError("under", f"{self.under!r} cannot be the name of a variable")
        for name in filter(None, (self.under, "report" if self.too_large != TooLarge.REFUSE else None)):
            if not isinstance(self.data.get(name, {}), Mapping):
                raise SubmissionError(f"data.{name}", "must be an object: values are put into it")


def _check_too_large(spec: ReportSpec) -> None:
    if spec.too_large not in tuple(TooLarge):
        raise SubmissionError("too_large", f"{spec.too_large!r} is none of {', '.join(TooLarge)}")
    if (spec.too_large == TooLarge.LINK) != (spec.link is not None):
        raise SubmissionError("link", "goes with too_large = link, which needs one")
    if spec.link is not None and not spec.link.startswith(("https://", "http://")):
        raise SubmissionError("link", f"{spec.link[:60]!r} is no address such as https://example.com/{{customer}}")
    if spec.link is not None and spec.template is None:
        raise SubmissionError("link", "goes with a template, which shows it as report.url")
    if spec.too_large == TooLarge.SPLIT and spec.template is None:
        raise SubmissionError("too_large", "split goes with a template, which shows report.part")
    if spec.too_large == TooLarge.SPLIT and spec.renderer is not None:
        raise SubmissionError("too_large", "split is for files that are there; a renderer makes one file")


def _check_kind(name: str, value: Any) -> None:
    if name in _OBJECTS:
        fits, what = isinstance(value, Mapping), "an object"
    elif name in _TEXTS:
        fits, what = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value), "a list of texts"
    elif name in _FLAGS:
        fits, what = isinstance(value, bool), "true or false"
    else:
        fits, what = isinstance(value, str), "a text"
    if not fits:
        raise SubmissionError(name, f"must be {what}")


def another(found: "Report") -> str:
    """Why something else cannot have its name."""
    stopped = f", which was stopped on its way: dispatcher reports cancel {found.name}, and take another name"
    return f"there is a report {found.name!r} already, and it is another one" + (
        stopped if found.state is ReportState.TAKING else ""
    )


class Finding(NamedTuple):
    """What a check has found, of one kind: ``where`` names the first rows or files, ``number`` says how many there
    are. ``ok``: it goes nevertheless."""

    what: str
    number: int
    where: tuple[str, ...]
    ok: bool = False


class ReportFile(NamedTuple):
    """A file as it went to somebody."""

    name: str
    sha256: str
    size: int


class ReportRow(NamedTuple):
    """A recipient of a report, as the ledger has it now; ``own`` is what their message has of its own, with a file
    that was rendered among its attachments. ``at``: seconds since the epoch."""

    n: int
    address: str
    own: Mapping[str, Any]
    state: State
    relay: str | None
    code: int | None
    enhanced: str | None
    text: str
    at: float

    @property
    def files(self) -> tuple[ReportFile, ...]:
        """Their own; what all of them get is the report's."""
        return files_of(self.own)

    @property
    def origin(self) -> int:
        """Its number in the report of which this one is a resend, perhaps of a resend."""
        return int(self.own.get(RESEND, self.n))


@dataclass(frozen=True, slots=True)
class Report:
    """A report as the ledger has it. Times are seconds since the epoch.

    ``digest`` is over all that it says and holds: the same one is the same report. ``files`` go to all, ``missing`` are
    the addresses that were left out, ``cursor`` of ``total`` rows were added.
    """

    id: int
    name: str
    state: ReportState
    spec: Mapping[str, Any]
    digest: str
    files: tuple[ReportFile, ...]
    missing: tuple[str, ...]
    submission: str
    cursor: int
    total: int
    created_at: float
    changed_at: float
    finished_at: float | None
    reported_at: float | None
    actor: str

    @property
    def owner(self) -> str | None:
        """Who is told when it is over."""
        found = self.spec.get("owner")
        return found if isinstance(found, str) else None

    @property
    def resend_of(self) -> str | None:
        """The first report whose mails go again with this one."""
        found = self.spec.get(RESEND)
        return found if isinstance(found, str) else None


def ended(report: Report) -> str:
    """Why this one cannot be cancelled any more; empty when it can."""
    return f"is {report.state.value}" if report.state in (ReportState.FINISHED, ReportState.CANCELLED) else ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is begun with, see ``Report``."""

    name: str
    spec: Mapping[str, Any]
    digest: str
    files: tuple[ReportFile, ...]
    missing: tuple[str, ...]
    total: int


def files_of(content: Mapping[str, Any]) -> tuple[ReportFile, ...]:
    """The files of a submission's shared content, or of a message's own; those to which its mail only links are called
    by their address."""
    return tuple(
        ReportFile(each.get("filename", ""), each["blob"], each.get("size", 0))
        for each in (*content.get("attachments", ()), *content.get(LINKED, ()))
    )


def with_made(own: Mapping[str, Any], made: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A message's own content with the file that was rendered for it, if it was, instead of the wish to have one."""
    if made is None:
        return own
    kept = {name: value for name, value in own.items() if name != "render"}
    return {**kept, "attachments": [*own.get("attachments", ()), made]}
