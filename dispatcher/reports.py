"""What people do with reports: check one, send it, and see where it stands.

A report that is taken in was checked: each file is stored under the hash that was found, or it is not taken at all.
Whoever is killed on the way begins again with the same command, and goes on where the ledger has its cursor.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice

from dispatcher.address import mailbox
from dispatcher.campaign import Expanded
from dispatcher.delivery import LIVE, UNSENT, WAITING, Actor, Selector, State
from dispatcher.errors import SubmissionError
from dispatcher.interfaces import Clock, FileSource, Found, Ledger, Renderers, Rows
from dispatcher.mail import Accepted
from dispatcher.manifest import Manifest
from dispatcher.names import check_name
from dispatcher.render import Template
from dispatcher.report_check import Accept, Check, Checked, Ready, check_known, given, stored
from dispatcher.report_job import RESEND, Asked, Report, ReportRow, ReportSpec, ReportState, TooLarge
from dispatcher.suppression import normal
from dispatcher.written import encode

CHUNK = 200  # mails whose files are stored before they are added in one transaction
Progress = Callable[[int], None]


def _silent(_: int) -> None: ...


class Reports:
    """``accepting`` answers, for one report, what checks a submission with files that are not stored yet; ``template``
    answers one by its name; ``files`` finds and stores them, ``begun`` is called when there is something to send."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        accepting: Callable[[], Accept],
        template: Callable[[str], Template],
        files: FileSource,
        renderers: Renderers,
        begun: Callable[[], object],
        clock: Clock,
        max_bytes: int,
    ) -> None:
        self._ledger, self._store, self._accepting, self._files = ledger, ledger.reports, accepting, files
        self._renderers, self._begun, self._clock, self._max = renderers, begun, clock, max_bytes
        self._template = template

    def check_spec(self, spec: ReportSpec) -> None:
        """What can be seen to be wrong without a manifest and without files. Raises SubmissionError."""
        self._check(spec)
        self._accepting()({**spec.shared(), "lane": "bulk"}, stored(()))
        if spec.renderer is not None:
            check_known(spec.renderer, self._renderers)

    def check(
        self, spec: ReportSpec, rows: Rows, *, progress: Progress = _silent, ignored: Collection[str] = ()
    ) -> Checked:
        """Look at everybody's files and data. Raises SubmissionError naming the field, AudienceError for a manifest
        that cannot be read. ``ignored``: files of the folder that nobody need get."""
        self._check(spec)
        return Check(spec, self._files, self._accepting(), self._renderers, self._max).run(
            Manifest(rows), progress, ignored
        )

    def _check(self, spec: ReportSpec) -> None:
        spec.check()
        if spec.owner is not None:
            mailbox(spec.owner, "owner")
        shown = {TooLarge.LINK.value: "report.url", TooLarge.SPLIT.value: "report.part"}.get(spec.too_large)
        if shown is not None and spec.template is not None and not self._template(spec.template).mentions(shown):
            raise SubmissionError("template", f"{spec.template} does not show {shown}: too_large = {spec.too_large}")

    def send(
        self, name: str, spec: ReportSpec, checked: Checked, actor: Actor, *, progress: Progress = _silent
    ) -> Report:
        """Take in what was checked, and let it go. The same under the same name goes on where it stands. Raises
        SubmissionError unless the check is good, FileFault for a file that was changed since."""
        check_name(name)
        if not checked.ok or checked.accepted is None:
            raise SubmissionError(name, "its check has findings; nothing was sent")
        for found in checked.shared:
            self._files.store(found)
        asked = Asked(
            name, spec.document(), checked.digest(spec), tuple(each.file for each in checked.shared), checked.missing,
            len(checked.mails),
        )  # fmt: skip
        return self._take(asked, checked.accepted, checked.mails, actor, progress)

    def resend(
        self, name: str, again: str, states: Collection[State], to: Mapping[str, str] | None, actor: Actor
    ) -> Report:
        """A report ``again`` of those of this one that ended in these states, with the same files; ``to``: only these
        addresses, and where each of them is now. What has become of them in other resends counts: who was sent it there
        is ``sent``. Raises SubmissionError where there is nobody, or somebody else is named, and where anything may
        still go."""
        check_name(again)
        if going := sorted(LIVE.intersection(states)):
            raise SubmissionError("only", f"{going[0]} is not over: it may still go, and would go twice")
        old = self._store.get(name)
        spec = ReportSpec.parse(
            {name: value for name, value in old.spec.items() if name not in ("allow_missing", RESEND)}
        )
        _, sent = self._elsewhere(old, again)
        moved = None if to is None else {normal(address): new for address, new in to.items()}
        if to is not None and moved is not None and len(moved) < len(to):
            raise SubmissionError("to_list", "one address is there twice, in two spellings")
        everybody = list(self.rows(old))
        chosen = [
            row
            for row in everybody
            if row.state in states
            and (row.origin not in sent or State.SENT in states)
            and (moved is None or normal(row.address) in moved)
        ]
        self._must_be_alone(old, again, chosen, sent)
        if moved is not None and (strange := sorted(moved.keys() - {normal(row.address) for row in chosen})):
            which = " or ".join(sorted(states))
            raise SubmissionError("to_list", f"{strange[0]} is nobody of {name} that is {which}; nothing was sent")
        if moved is not None:
            _check_moves(name, moved, {normal(row.address) for row in everybody})
        if not chosen:
            raise SubmissionError(name, f"nobody of it is {' or '.join(sorted(states))}, other resends counted in")
        mails = tuple(_moved(row, None if moved is None else moved[normal(row.address)]) for row in chosen)
        shared = tuple(Found("", file) for file in old.files)
        accepted = self._accepting()(
            {**spec.shared(), "tags": [*spec.tags, "report"], "lane": "bulk", "attachments": given(shared)},
            stored(shared),
        )
        digest = Checked(accepted, shared, mails, (), len(mails), ()).digest(spec)
        self._must_be_the_same(again, digest)
        whole = {**spec.document(), RESEND: old.resend_of or old.name}
        asked = Asked(again, whole, digest, old.files, (), len(mails))
        made = self._store.begin(asked, accepted, actor)
        try:  # whoever begins at the same moment sees this one, or is seen by it
            self._must_be_alone(old, again, chosen, sent)
        except SubmissionError:
            if made.state is self._store.get(again).state is ReportState.TAKING:  # none of its mails goes yet
                self.cancel(again, actor)
            raise
        return self._take(asked, accepted, mails, actor, _silent)

    def _must_be_alone(self, old: Report, again: str, chosen: Sequence[ReportRow], sent: Collection[int]) -> None:
        """Nobody of them has it under way by another resend, or was sent it by one beside those who were ``sent`` it
        when they were chosen."""
        waiting, now_sent = self._elsewhere(old, again)
        if served := [row for row in chosen if row.origin in now_sent.difference(sent)]:
            raise SubmissionError(old.name, f"{served[0].address} was sent it by another resend just now: look again")
        if busy := [row for row in chosen if row.origin in waiting]:
            why = f"{busy[0].address} has it under way by {waiting[busy[0].origin]}: wait for that, or cancel it"
            raise SubmissionError(old.name, why)

    def _elsewhere(self, old: Report, again: str) -> tuple[dict[int, str], set[int]]:
        """Of those in the same first report, by their numbers there: for whom another resend of it (or it itself) is
        under way, with its name, and whom one was sent to. Raises SubmissionError for one that is being taken in."""
        first, live, sent = old.resend_of or old.name, dict[int, str](), set[int]()
        for report in self._store.listed():
            if first not in (report.name, report.resend_of) or report.name in (old.name, again):
                continue
            if report.state is ReportState.TAKING:
                raise SubmissionError(old.name, f"{report.name} is being taken in: go on with that, or cancel it")
            for row in self.rows(report):
                if row.state in LIVE:
                    live[row.origin] = report.name
                elif row.state is State.SENT:
                    sent.add(row.origin)
        return live, sent

    def _must_be_the_same(self, again: str, digest: str) -> None:
        """A resend that was stopped is gone on with, unless others have ended in these states since."""
        for found in self._store.listed():
            if found.name == again and found.state is ReportState.TAKING and found.digest != digest:
                why = "was stopped on its way, and is for others by now: cancel it, and choose another name (--as)"
                raise SubmissionError(again, why)

    def cancel(self, name: str, actor: Actor) -> Report:
        """End it: what was not sent yet does not go, and no more is taken in. What a worker has in hand at this moment
        is finished. Raises SubmissionError for one that is over."""
        found = self._store.cancel(name, actor)
        self._ledger.change(Selector(ids=(found.submission,), states=tuple(WAITING)), State.CANCELLED, actor)
        self._begun()
        return self._store.get(name)

    def _take(
        self, asked: Asked, accepted: Accepted, mails: Sequence[Ready], actor: Actor, progress: Progress
    ) -> Report:
        report = self._store.begin(asked, accepted, actor)
        _must_go(report)
        progress(report.cursor)
        while report.cursor < report.total:
            some = mails[report.cursor : report.cursor + CHUNK]
            for found in (found for mail in some for found in mail.files):
                self._files.store(found)
            if self._store.add(report, self._rows(some, report.cursor), _blobs(some)):
                progress(len(some))
            report = self._store.get(asked.name)
            _must_go(report)
        self._begun()
        return report

    def rows(self, report: Report) -> Iterator[ReportRow]:
        """Everybody of it, in the order of the manifest, read in pages."""
        after = 0
        while page := self._store.rows(report, after, CHUNK * 5):
            yield from page
            after = page[-1].n

    def get(self, name: str) -> Report:
        """Raises NotFound."""
        return self._store.get(name)

    def listed(self) -> list[Report]:
        """All of them, the newest first."""
        return self._store.listed()

    def unsent(self, name: str, limit: int) -> list[ReportRow]:
        """The first of those whose mail ended without being sent; ``text`` says why."""
        report = self._store.get(name)
        if UNSENT.isdisjoint(self._store.sums(report)):
            return []
        return list(islice((row for row in self.rows(report) if row.state in UNSENT), limit))

    def sums(self, name: str) -> dict[State, int]:
        """Its mails by state."""
        return self._store.sums(self._store.get(name))

    def _rows(self, mails: Sequence[Ready], before: int) -> list[Expanded]:
        now = self._clock.time()
        return [
            Expanded(n, mail.rcpt, normal(mail.rcpt), encode(mail.own), now) for n, mail in enumerate(mails, before + 1)
        ]


def _must_go(report: Report) -> None:
    if report.state is ReportState.CANCELLED:
        raise SubmissionError(report.name, "was cancelled; send it under another name")


def _check_moves(name: str, moved: Mapping[str, str], recipients: Collection[str]) -> None:
    """Nobody gets what is somebody else's. Raises SubmissionError."""
    taken: dict[str, str] = {}
    for before, after in moved.items():
        address = normal(mailbox(after, "to_list")[0])
        if address in recipients and address not in moved:
            raise SubmissionError("to_list", f"{after} is another recipient of {name}; nothing was sent")
        if (other := taken.setdefault(address, before)) != before:
            raise SubmissionError("to_list", f"{other} and {before} would both go to {after}; nothing was sent")


def _blobs(mails: Sequence[Ready]) -> list[str]:
    return sorted({each["blob"] for mail in mails for each in mail.own.get("attachments", ())})


def _moved(row: ReportRow, to: str | None) -> Ready:
    """The same mail to somebody, perhaps at another address. A file that was rendered for them is not made again."""
    own = {**row.own, RESEND: row.origin}
    if to is None:
        return Ready(row.address, own, ())
    spec, shown = mailbox(to, "to_list")
    return Ready(spec, {**own, "to": [shown]}, ())
