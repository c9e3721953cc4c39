"""What people do with campaigns: make one, check it, try it, start it, hold it, and see what became of everybody."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dispatcher.address import parse
from dispatcher.campaign import ACTS, RETRYABLE, Campaign, CampaignSpec, CampaignState, Sums
from dispatcher.delivery import WAITING, Actor, Selector, State
from dispatcher.errors import SubmissionError
from dispatcher.expansion import Person, Plan
from dispatcher.interfaces import Clock, Ledger
from dispatcher.mail import Accepted, Receipt
from dispatcher.names import check_name
from dispatcher.preflight import Preflight
from dispatcher.render import Template

PAGE = 1000  # rows of an audience that are read at once
Progress = Callable[[int], None]


def _silent(_: int) -> None: ...


class Campaigns:
    """``publish`` answers the version of a template that new mail is rendered with, ``accept`` checks what all
    recipients share, ``submit`` accepts a mail, ``begun`` is called when there is something to do for workers."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        publish: Callable[[str], tuple[str, Template]],
        accept: Callable[[Mapping[str, Any]], Accepted],
        submit: Callable[[Mapping[str, Any]], Receipt],
        begun: Callable[[], object],
        clock: Clock,
    ) -> None:
        self._ledger, self._store = ledger, ledger.campaigns
        self._publish, self._accept, self._submit, self._begun = publish, accept, submit, begun
        self._clock = clock

    # -- making

    def create(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        """A draft. Raises SubmissionError naming the field, NotFound for an audience that is not there."""
        check_name(name)
        self.check_spec(spec)
        return self._store.create(name, spec, actor)

    def revise(self, name: str, spec: CampaignSpec, actor: Actor) -> Campaign:
        """Change one that was not started; it is a draft again."""
        self.check_spec(spec)
        return self._store.revise(name, spec, actor)

    def check_spec(self, spec: CampaignSpec) -> None:
        """Refuse what can be seen to be wrong without looking at everybody. Raises SubmissionError naming the field,
        NotFound for an audience that is not there."""
        spec.check()
        version = self._ledger.audiences.current(spec.audience)
        _, template = self._publish(spec.template)
        if template.sensitive:
            raise SubmissionError(
                "template", f"{spec.template} takes data that is x-sensitive, which an audience is not"
            )
        Plan(spec, template, version.columns, 0.0)
        self._accept(shared_document(spec))
        if spec.owner is not None:
            parse(spec.owner, "owner")

    def get(self, name: str) -> Campaign:
        """Raises NotFound."""
        return self._store.get(name)

    def listed(self) -> list[Campaign]:
        """All of them, the newest first."""
        return self._store.listed()

    # -- checking

    def check(
        self, name: str, actor: Actor, *, without_invalid: bool = False, progress: Progress = _silent
    ) -> Campaign:
        """Look at everybody in the audience as it is now, and render every shape of their data. From now on the
        campaign goes by this version of the audience and of the template. ``progress`` hears of how many, and of 0
        before each mail that is rendered."""
        seen = self._store.get(name)
        if seen.state not in (CampaignState.DRAFT, CampaignState.CHECKED):
            raise SubmissionError(name, f"is {seen.state}: only what was not started is checked")
        version = self._ledger.audiences.current(seen.spec.audience)
        digest, template = self._publish(seen.spec.template)
        self._accept(shared_document(seen.spec))
        plan = Plan(seen.spec, template, version.columns, 0.0)
        flight = Preflight(plan, self._clock.time(), without_invalid)
        for people in self._people(flight.plan, version.id, progress):
            held = self._ledger.suppressions.held([person.address for person in people], seen.spec.list)
            flight.look(people, held)
        findings = flight.findings(progress)
        found = {
            "ok": all(finding.level != "fail" for finding in findings),
            "audience": version.version,
            "template": digest,
            "recipients": flight.recipients,
            "suppressed": flight.suppressed,
            "invalid": flight.invalid,
            "findings": [finding._asdict() for finding in findings],
        }
        return self._store.check(seen, version.id, found, actor)

    def _people(self, plan: Plan, version: int, progress: Progress = _silent) -> Iterator[list[Person]]:
        after = 0
        while rows := self._ledger.audiences.members(version, after, PAGE):
            yield plan.people(rows)
            after = rows[-1][0]
            progress(len(rows))

    def test(self, name: str, to: Sequence[str], *, rows: int = 1) -> list[Receipt]:
        """Send the mails of the first few people to these addresses instead, at once and beside the campaign."""
        found = self._store.get(name)
        version = self._ledger.audiences.current(found.spec.audience)
        _, template = self._publish(found.spec.template)
        plan = Plan(found.spec, template, version.columns, 0.0)
        people = next(filter(None, self._people(plan, version.id)), [])[:rows]
        if not people:
            raise SubmissionError(name, f"nobody in {found.spec.audience} is meant, so there is no data to try it with")
        shared = shared_document(found.spec)
        shared |= {
            "tags": [*shared.get("tags", ()), "test"],
            "lane": "transactional",
            "metadata": {"campaign": name},
        }
        return [
            self._submit({**shared, "to": [address], "data": dict(person.data), "locale": person.locale})
            for address in to
            for person in people
        ]

    # -- going

    def start(self, name: str, actor: Actor) -> Campaign:
        """Let it go, at once or when its time comes. Raises SubmissionError unless its check is good, or when somebody
        has started it before."""
        found = self._store.get(name)
        if found.state is CampaignState.DRAFT:
            why = "its check has failed" if found.checked else "it was not checked"
            raise SubmissionError(name, f"{why}: see `dispatcher campaigns check`")
        checked = found.checked or {}
        document = {**shared_document(found.spec), "lane": "bulk", "metadata": {"campaign": name}}
        accepted = self._accept(document)
        shared = {**accepted.shared}
        for setting in ("hours", "zone", "rate"):
            if value := getattr(found.spec, setting):
                shared[setting] = list(value) if setting == "rate" else value
        accepted = replace(accepted, shared=shared, template=checked.get("template", accepted.template))
        started = self._store.start(found, accepted, found.spec.earliest(), actor)
        self._begun()
        return started

    def act(self, name: str, verb: str, actor: Actor) -> Campaign:
        """``pause``, ``resume`` or ``cancel``. What a worker has in hand at this moment is finished. Raises
        SubmissionError when it stands where that cannot be done."""
        if verb not in ACTS or verb == "retry":
            raise SubmissionError("act", f"{verb!r} is none of pause, resume and cancel")
        found = self._store.act(name, verb, actor)
        if verb == "cancel" and found.submission:
            self._ledger.change(Selector(ids=(found.submission,), states=tuple(WAITING)), State.CANCELLED, actor)
        self._begun()
        return self._store.get(name)

    def retry(self, name: str, states: Sequence[State], actor: Actor, progress: Progress = _silent) -> int:
        """Try those again that ended in these states; how many."""
        if refused := [state for state in states if state not in RETRYABLE]:
            raise SubmissionError("only", f"{refused[0]} is not tried again; choose of {', '.join(RETRYABLE)}")
        found = self._store.get(name)
        if found.submission is None:
            raise SubmissionError(name, "was not started yet")
        which = Selector(ids=(found.submission,), states=tuple(states))
        if not self._ledger.count(which):
            return 0
        self._store.act(name, "retry", actor)
        changed = self._ledger.change(which, State.QUEUED, actor, progress)
        if changed and self._store.get(name).state is CampaignState.FINISHED:  # before any of them was queued
            self._store.act(name, "retry", actor)
        return changed

    # -- knowing

    def sums(self, name: str) -> Sums:
        """The account of a campaign."""
        return self._store.sums(self._store.get(name))


def shared_document(spec: CampaignSpec) -> dict[str, Any]:
    """The part of a submission's JSON that all recipients share."""
    wanted = (
        *("template", "locale", "from", "mail_from", "reply_to", "headers", "relay", "list", "tags", "if_in_doubt"),
        "data",
    )
    document = spec.document()
    return {name: document[name] for name in wanted if name in document}
