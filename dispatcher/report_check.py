"""What is looked at before a report goes: everybody's files and data. Nothing is kept, and nothing is sent."""

import hashlib
import json
import mimetypes
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from dispatcher import naming
from dispatcher.audience import BadRow
from dispatcher.errors import FileFault, SubmissionError
from dispatcher.interfaces import FileSource, Found, Renderers
from dispatcher.mail import Accepted
from dispatcher.manifest import Manifest, Person
from dispatcher.mime import check_attachment
from dispatcher.report_job import LINKED, MAX_FINDINGS, Finding, ReportSpec, TooLarge
from dispatcher.transfer import BASE64_GROWTH
from dispatcher.written import encode

Stored = Callable[[Mapping[str, Any], str], dict[str, Any]]
Accept = Callable[[Mapping[str, Any], Stored], Accepted]
_ROOM = 64 * 1024  # bytes of a mail that its texts and headers may have beside the files
_SHRINKS = 20  # times that an archive may be smaller than its files; it is not tried for more
_KINDS = (
    *("recipient", "data", "missing", "no file", "doubled", "unreadable", "too large", "wrong type", "left over"),
    "name",
)
_BEARABLE = frozenset({"missing", "no file"})  # those may be left out


@dataclass(frozen=True, slots=True)
class Ready:
    """One mail as it will go: ``own`` as ``AcceptedMessage`` has it, and the files that it needs."""

    rcpt: str
    own: Mapping[str, Any]
    files: tuple[Found, ...]

    def linking(self, files: Sequence[Found], url: str) -> "Ready":
        """The same mail, which has an address in place of these files."""
        linked = [{"filename": url, "blob": each.file.sha256, "size": each.file.size} for each in files]
        return replace(self, own={**self.own, LINKED: linked})


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has found. ``accepted`` is what all share, with no messages; ``missing`` are those left out."""

    accepted: Accepted | None
    shared: tuple[Found, ...]
    mails: tuple[Ready, ...]
    missing: tuple[str, ...]
    recipients: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether it may go."""
        return all(finding.ok for finding in self.findings) and bool(self.mails)

    def digest(self, spec: ReportSpec) -> str:
        """Over all that it says and holds."""
        found = hashlib.sha256(encode(spec.document()).encode())
        for each in self.shared:
            found.update(f"\0{each.file.name}\0{each.file.sha256}".encode())
        for mail in self.mails:
            found.update(f"\0{mail.rcpt}\0{json.dumps(mail.own, sort_keys=True)}".encode())
        return found.hexdigest()


@dataclass(slots=True)
class Check:
    """One check. ``accept`` checks a submission, whose attachments its second argument finds; a mail may have
    ``max_bytes``."""

    spec: ReportSpec
    source: FileSource
    accept: Accept
    renderers: Renderers
    max_bytes: int
    _found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _first: dict[str, str] = field(default_factory=dict)  # who has a file, by its path and by its content
    _used: set[str] = field(default_factory=set)

    def run(self, manifest: Manifest, progress: Callable[[int], None], ignored: Collection[str] = ()) -> Checked:
        """Look at everything. Raises SubmissionError for what is wrong for all of them, AudienceError for the
        manifest. ``ignored``: files that are not left over."""
        self._check_names(manifest)
        shared = self._shared()
        accepted = self.accept({**self._document(), "lane": "bulk", "attachments": given(shared)}, stored(shared))
        mails: list[Ready] = []
        missing: list[str] = []
        recipients = 0
        for person in manifest:
            recipients += 1
            progress(1)
            if isinstance(person, BadRow):
                self._note("recipient", f"row {person.n}", f"{person.field}: {person.reason}".removeprefix(": "))
                continue
            made = self._mails(person, shared, named=manifest.names_files)
            mails += made or ()
            if made is None:
                missing.append(person.to)
        self._look_for_others(ignored)
        return Checked(accepted, shared, tuple(mails), tuple(missing), recipients, self._findings(recipients))

    def _check_names(self, manifest: Manifest) -> None:
        spec = self.spec
        if spec.renderer is not None:
            self._check_renderer(spec.renderer, manifest)
        for name, pattern in (
            *(("files", each) for each in spec.files),
            ("filename", spec.filename),
            ("link", spec.link),
        ):
            if unknown := sorted(naming.named(pattern or "") - manifest.names):
                raise SubmissionError(name, f"{pattern}: {_no_value(manifest, unknown[0])}")
        for name in ("subject", "text", "html"):
            if literal := sorted(naming.named(getattr(spec, name) or "") & manifest.names):
                why = f"{{{literal[0]}}} would stand in the mail like this: only templates have variables"
                raise SubmissionError(name, why)
        if not (spec.files or spec.attach or spec.renderer or manifest.names_files):
            raise SubmissionError("files", "nothing is attached: give a pattern, a column file, attach or a renderer")

    def _check_renderer(self, name: str, manifest: Manifest) -> None:
        check_known(name, self.renderers)
        if unknown := sorted(self.renderers.wanted(name) - manifest.names):
            raise SubmissionError("renderer", f"{name}: {_no_value(manifest, unknown[0])}")

    def _document(self) -> dict[str, Any]:
        document = self.spec.shared()
        return {**document, "tags": [*document.get("tags", ()), "report"]}

    def _shared(self) -> tuple[Found, ...]:
        found = []
        for name in self.spec.attach:
            try:
                found.append(self.source.look(None, name))
            except FileFault as error:
                raise SubmissionError("attach", str(error)) from None
        for each in found:
            if each.path in self._first:
                raise SubmissionError("attach", f"{each.file.name} is there twice")
            self._used.add(each.path)
            self._first |= {each.path: "everybody", each.file.sha256: "everybody"}
        if _encoded(found) > self.max_bytes - _ROOM:
            raise SubmissionError("attach", f"{_sized(found)}, which may have {self.max_bytes:,}")
        return tuple(found)

    def _mails(self, person: Person, shared: Sequence[Found], *, named: bool) -> list[Ready] | None:
        """The mails of one row; None: they have no file. Raises SubmissionError for files without a folder."""
        who = f"row {person.n} ({person.to})"
        if person.files and self.spec.folder is None:
            raise SubmissionError("folder", f"{who} names {person.files[0]!r}: say in which folder such files are")
        wanted = bool(self.spec.files) or named
        try:
            names = [*(naming.file_name(pattern, person.values) for pattern in self.spec.files), *person.files]
            names = list(dict.fromkeys(names))
        except ValueError as error:
            self._note("name", who, str(error))
            return []
        if wanted and not names and self.spec.renderer is None:
            self._note("no file", who, "")
            return None
        files: list[Found] = []
        faults: list[FileFault] = []
        for name in names:
            try:
                files.append(self.source.look(self.spec.folder, name))
            except FileFault as error:
                faults.append(error)
        for file in files:
            self._used.add(file.path)
            self._check_doubled(who, file.file.name, file.path, file.file.sha256)
        for fault in faults:
            self._note(fault.what, who, str(fault))
        if faults:
            return None if {fault.what for fault in faults} == {"missing"} else []
        return self._fitting(person, who, files, shared)

    def _check_doubled(self, who: str, what: str, *keys: str) -> None:
        for key in keys:
            if (first := self._first.setdefault(key, who)) != who:
                self._note("doubled", who, f"{what} is that of {first} too")
                return

    def _fitting(self, person: Person, who: str, files: list[Found], shared: Sequence[Found]) -> list[Ready]:
        """With what becomes of files that are too large for a mail."""
        room = self.max_bytes - _ROOM - _encoded(shared)
        try:
            parts, report = self._parts(person, files, room)
            if any(_encoded(part) > room for part in parts):
                self._note("too large", who, f"{_sized(files)}, which may have {self.max_bytes:,}")
                return []
            made = [
                self._ready(person, part, shared, report | ({"part": f"{n}/{len(parts)}"} if len(parts) > 1 else {}))
                for n, part in enumerate(parts, 1)
            ]
            if "url" in report:
                made = [each.linking(files, report["url"]) for each in made]
        except SubmissionError as error:
            self._note("data", who, f"{error.field.removeprefix('recipients[0].')}: {error.reason}")
            return []
        except FileFault as error:
            self._note(error.what, who, str(error))
            return []
        except ValueError as error:
            self._note("name", who, str(error))
            return []
        if not files:
            self._check_doubled(who, "the mail", f"{made[0].rcpt} {encode(made[0].own)}")
        return made

    def _parts(self, person: Person, files: list[Found], room: int) -> tuple[list[list[Found]], dict[str, Any]]:
        """The files of each of their mails, and what the template is told of it: in a ZIP archive where they fit as
        one, else by the rule of the report. Raises ValueError."""
        if _encoded(files) <= room:
            return [files], {}
        if sum(each.file.size for each in files) <= room * _SHRINKS:
            packed = self.source.pack(files, f"{PurePath(files[0].file.name).stem}.zip")
            if packed is not None and _encoded([packed]) <= room:
                return [[packed]], {}
        if self.spec.link is not None:
            return [[]], {"url": naming.link(self.spec.link, person.values)}
        return (_parted(files, room) if self.spec.too_large == TooLarge.SPLIT else [files]), {}

    def _ready(self, person: Person, files: list[Found], shared: Sequence[Found], report: dict[str, Any]) -> Ready:
        spec = self.spec
        recipient: dict[str, Any] = {"to": person.to, "attachments": given(files)}
        if spec.template is not None:
            recipient["locale"] = person.locale
            data: dict[str, Any] = {**person.values}
            if spec.under is not None:
                data = {spec.under: {**spec.data.get(spec.under, {}), **data}}
            if report:
                theirs = data.get("report", {})
                if not isinstance(theirs, Mapping):
                    raise SubmissionError("data.report", "is no object; its url or part has no place there")
                told = {**spec.data.get("report", {}), **theirs, **report}
                if "url" in report and spec.renderer is None and told.get("attached"):  # as the others' are
                    told["attached"] = False
                data["report"] = told
            recipient["data"] = data
        document = {**self._document(), "attachments": given(shared), "recipients": [recipient]}
        (message,) = self.accept(document, stored([*files, *shared])).messages
        own = dict(message.own)
        if spec.renderer is not None and spec.filename is not None:
            filename = naming.bare_name(spec.filename, person.values)
            check_attachment("application/octet-stream", filename, None, "render")
            if empty := [
                each for each in self.renderers.wanted(spec.renderer) if person.values.get(each) in (None, "")
            ]:
                raise ValueError(f"{spec.renderer}: there is no {min(empty)!r}")
            own["render"] = {"name": spec.renderer, "filename": filename, "values": person.values}
        return Ready(message.deliveries[0].rcpt, own, tuple(files))

    def _look_for_others(self, ignored: Collection[str]) -> None:
        """Files in the folder that nobody gets: most often those of somebody whom the manifest has forgotten."""
        if self.spec.folder is None:
            return
        try:
            for name in self.source.left_over(self.spec.folder, {*self._used, *ignored}):
                self._note("left over", name, "")
        except FileFault as error:
            raise SubmissionError("folder", str(error)) from None

    def _note(self, what: str, where: str, why: str) -> None:
        self._found[what].append(f"{where}: {why}" if why else where)

    def _findings(self, recipients: int) -> tuple[Finding, ...]:
        found = [
            Finding(what, len(where), tuple(where[:MAX_FINDINGS]), what in _BEARABLE and self.spec.allow_missing)
            for what in _KINDS
            if (where := self._found.get(what))
        ]
        return tuple(found) if recipients else (Finding("recipient", 0, ("the manifest has no rows",)),)


def check_known(name: str, renderers: Renderers) -> None:
    """Raises SubmissionError for a renderer that is none."""
    if name not in renderers.names:
        known = ", ".join(sorted(renderers.names)) or "none"
        raise SubmissionError("renderer", f"[reports] renderers has no {name!r}; there is {known}")


def given(files: Sequence[Found]) -> list[dict[str, Any]]:
    """As the JSON of a submission has them."""
    return [{"blob": each.file.sha256, "filename": each.file.name} for each in files]


def stored(files: Sequence[Found]) -> Stored:
    """Finds them without the store, where they are not yet."""
    sizes = {each.file.sha256: each.file.size for each in files}

    def stored(given: Mapping[str, Any], at: str) -> dict[str, Any]:
        filename = given["filename"]
        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        check_attachment(content_type, filename, None, at)
        return {**given, "size": sizes[given["blob"]], "content_type": content_type}

    return stored


def _no_value(manifest: Manifest, name: str) -> str:
    known = ", ".join(sorted(manifest.names)) or "none"
    return f"{manifest.source} has no column {name!r} whose values can stand there; such are {known}"


def _encoded(files: Sequence[Found]) -> int:
    """Bytes that they have in a mail."""
    return int(sum(each.file.size for each in files) * BASE64_GROWTH)


def _sized(files: Sequence[Found]) -> str:
    return f"{sum(each.file.size for each in files):,} bytes of files, {_encoded(files):,} in a mail"


def _parted(files: Sequence[Found], room: int) -> list[list[Found]]:
    """In their order, as many in each mail as fit."""
    parts: list[list[Found]] = [[]]
    for file in files:
        if parts[-1] and _encoded([*parts[-1], file]) > room:
            parts.append([])
        parts[-1].append(file)
    return parts
