"""The ledger in memory: the same promises, but for surviving the process."""

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import count

from dispatcher.delivery import WAITING, Actor, Lane, Lease, Selector, Settlement, State
from dispatcher.errors import IdempotencyConflict, NotFound
from dispatcher.interfaces import Clock
from dispatcher.ledger import (
    ACT_SECONDS,
    KEY_SECONDS,
    LIFETIME_USED_UP,
    RECEIPT_RECIPIENTS,
    RESOLVED,
    WIPED,
    act_of,
    avoided,
    bounced,
    changeable,
    differing,
    publishing,
    signature,
    standing,
    storable,
    together,
)
from dispatcher.mail import Accepted, Receipt, ReceiptRecipient
from dispatcher.memory.audiences import MemoryAudiences
from dispatcher.memory.automations import MemoryAutomations
from dispatcher.memory.brakes import Brakes
from dispatcher.memory.campaigns import MemoryCampaigns
from dispatcher.memory.proving import account, sums
from dispatcher.memory.reports import MemoryReports
from dispatcher.memory.retiring import retire
from dispatcher.memory.rows import DeliveryRow, SubmissionRow, views
from dispatcher.memory.schedules import MemorySchedules
from dispatcher.memory.store import KeyRow, Store, key_of, wipe
from dispatcher.memory.suppressions import MemorySuppressions
from dispatcher.records import (
    Account,
    Act,
    AttemptRecord,
    DeliveryRecord,
    Pause,
    Publication,
    Reject,
    Retired,
    SubmissionRecord,
    Totals,
)
from dispatcher.retention import Retention
from dispatcher.suppression import by_bounce
from dispatcher.template import TemplateVersion


class MemoryLedger:
    """``interfaces.Ledger`` for tests; ``clock`` is the ledger's clock. Threads may share it."""

    def __init__(self, clock: Clock | None = None, *, key_seconds: float = KEY_SECONDS) -> None:
        self._now = clock.time if clock else time.time
        self._key_seconds = key_seconds
        self._lock = threading.RLock()
        self._store = Store()
        self._templates: dict[str, tuple[str, dict[str, str]]] = {}
        self._kept_at: dict[str, float] = {}
        self._publications: dict[str, Publication] = {}
        self._brakes = Brakes(self._now)
        self._acts: list[Act] = []
        self._rejects: list[Reject] = []
        self._resolved: dict[int, float] = {}  # when, by the reject's number
        self._numbers = count(1)
        self.suppressions = MemorySuppressions(
            self._lock, self._now, lambda actor, verb, subject, changed: self._act(actor, verb, subject, count=changed)
        )
        self.audiences = MemoryAudiences(
            self._lock,
            self._now,
            self._act,
            lambda versions: self.campaigns.refer(versions),  # noqa: PLW0108 - they are made below
        )
        self.campaigns = MemoryCampaigns(
            self._lock, self._now, self._store, self._brakes, self._act, self.suppressions.held, self.audiences.by_id
        )
        self.schedules = MemorySchedules(self._lock, self._now, self._act)
        self.automations = MemoryAutomations(self._lock, self._now, self._act, self.add, self._under_way)
        self.reports = MemoryReports(
            self._lock, self._now, self._store, self._brakes, self._act, self.suppressions.held
        )

    # -- accepting

    def add(self, submissions: Sequence[Accepted]) -> list[Receipt | IdempotencyConflict]:
        with self._lock:
            return [self._add(accepted) for accepted in submissions]

    def _add(self, accepted: Accepted) -> Receipt | IdempotencyConflict:
        used = self._store.key(accepted, self._now())
        if used is not None:
            differs = differing(used.fingerprints, accepted.fingerprints)
            if differs:
                return IdempotencyConflict(accepted.key or "", used.submission, differs)
            first = self._store.submissions.get(used.submission)
            return _receipt(first, used.submission, used.accepted, duplicate=True)
        row = self._store.insert(accepted, self._now(), self.suppressions.holding)
        if accepted.key is not None:
            until = self._now() + self._key_seconds
            self._store.keys[key_of(accepted)] = KeyRow(row.public_id, row.count, dict(accepted.fingerprints), until)
        queued = {delivery.message.id for delivery in row.deliveries if delivery.state is State.QUEUED}
        numbers = tuple(message.id for message in row.messages if message.id in queued)
        state = standing(delivery.state for delivery in row.deliveries)
        return replace(_receipt(row, row.public_id, row.count), state=state, message_ids=numbers)

    def _under_way(self, public_id: str) -> bool:
        """Whether a submission has deliveries that are still to be sent."""
        found = self._store.submissions.get(public_id)
        on_the_way = State.QUEUED, State.DEFERRED, State.LEASED
        return found is not None and any(delivery.state in on_the_way for delivery in found.deliveries)

    def put_template(self, digest: str, name: str, files: dict[str, str]) -> None:
        with self._lock:
            self._templates.setdefault(digest, (name, dict(files)))
            self._kept_at.setdefault(digest, self._now())

    def template(self, digest: str) -> tuple[str, dict[str, str]]:
        with self._lock:
            if digest not in self._templates:
                raise NotFound(f"no template version {digest}")
            name, files = self._templates[digest]
            return name, dict(files)

    def publish(self, versions: Sequence[TemplateVersion], actor: Actor) -> list[Publication]:
        with self._lock:
            changed = []
            for version in sorted(versions, key=lambda version: version.name):
                self.put_template(version.digest, version.name, dict(version.files))
                before = self._publications.get(version.name)
                if before is None or before.digest != version.digest:
                    act = self._act(actor, "publish", publishing(version))
                    made = Publication(version.name, version.digest, act.at, act.actor, act.reason)
                    self._publications[version.name] = made
                    changed.append(made)
            return changed

    def publications(self) -> dict[str, Publication]:
        with self._lock:
            return dict(sorted(self._publications.items()))

    def template_versions(self, name: str) -> list[tuple[str, float]]:
        with self._lock:
            kept = [(digest, self._kept_at[digest]) for digest, (of, _) in self._templates.items() if of == name]
            return sorted(kept, key=lambda version: (-version[1], version[0]))

    # -- delivering

    def lease(
        self,
        lane: Lane,
        *,
        limit: int,
        seconds: float,
        owner: str,
        messages: Sequence[int] = (),
        avoid: Collection[str | None] = (),
    ) -> Lease:
        with self._lock:
            now = self._now()
            token, until = secrets.token_hex(16), now + seconds
            first = set(messages)
            rows = sorted(self._due(lane, avoid), key=lambda row: (row.message.id not in first, row.due_at))
            crashes: dict[int, int] = {}
            for row in rows:
                if row.message.id in crashes or len(crashes) < limit:
                    crashes[row.message.id] = max(row.crashes, crashes.get(row.message.id, 0))
            taken: dict[int, list[DeliveryRow]] = {number: [] for number in together(crashes)}
            more = len(taken) < len(crashes)
            for row in sorted(rows, key=lambda row: row.id):
                if row.message.id not in taken:
                    continue
                submission = row.message.submission
                if row.expires_at <= now and not row.attempts and self._may_be_held_up(submission.public_id):
                    row.expires_at = now + submission.accepted.lifetime  # it begins with the first attempt
                if row.expires_at <= now:
                    late = AttemptRecord(now, State.EXPIRED, attempted=False, text=LIFETIME_USED_UP)
                    self._all_become([row], State.EXPIRED, late)
                elif (held := self.suppressions.holding(row.rcpt, submission.accepted.list)) is not None:
                    row.suppress(held, now)
                    wipe([row.message])
                    more = True
                else:
                    row.state, row.token, row.lease_until, row.changed_at = State.LEASED, token, until, now
                    row.owner = owner
                    taken[row.message.id].append(row)
            return Lease(token, until, views(row for mine in taken.values() for row in mine), now, more)

    def _may_be_held_up(self, submission: str) -> bool:
        return self.campaigns.owns(submission) or self.reports.owns(submission)

    def _goes_on(self, submission: str) -> bool:
        return self.campaigns.goes_on(submission) or self.reports.goes_on(submission)

    def _due(self, lane: Lane, avoid: Collection[str | None]) -> list[DeliveryRow]:
        """What waits in the lane, is due, held by no pause, and avoided by nobody."""
        _, submissions = avoided(avoid)
        held = {(pause.kind, pause.name) for pause in self._brakes.standing() if not pause.half_open}
        held |= {("submission", name) for name in submissions}
        if ("lane", lane.value) in held:
            return []
        now = self._now()
        return [
            row
            for row in self._store.deliveries.values()
            if row.state in WAITING
            and row.due_at <= now
            and row.lane == lane
            and ("relay", row.message.submission.accepted.relay) not in held
            and row.message.submission.accepted.relay not in avoid
            and ("submission", row.message.submission.public_id) not in held
        ]

    def settle(self, token: str, settlements: Sequence[Settlement]) -> int:
        with self._lock:
            changed = 0
            told: defaultdict[str, list[Settlement]] = defaultdict(list)
            for settlement in {each.delivery: each for each in reversed(settlements)}.values():
                row = self._store.deliveries.get(settlement.delivery)
                if row is not None and row.token == token and row.settle(settlement, self._now()):
                    wipe([row.message])
                    changed += 1
                    told[row.message.submission.public_id].append(settlement)
                    if row.state is State.BOUNCED and by_bounce(settlement, len(row.message.deliveries)):
                        self.suppressions.add([bounced(row.rcpt, settlement, row.message.public_id)])
            self.campaigns.feed(told)
            return changed

    def held(self, owner: str) -> list[Lease]:
        with self._lock:
            by_token: defaultdict[str, list[DeliveryRow]] = defaultdict(list)
            for row in self._store.deliveries.values():
                if row.state is State.LEASED and row.owner == owner and row.token:
                    by_token[row.token].append(row)
            now = self._now()
            return [Lease(token, rows[0].lease_until, views(rows), now) for token, rows in by_token.items()]

    def reclaim(self, living: Collection[str] = (), grace: float = 0.0) -> int:
        with self._lock:
            now = self._now()
            leased = [row for row in self._store.deliveries.values() if row.state is State.LEASED]
            rows = [row for row in leased if row.lease_until < now - grace and row.owner not in living]
            for row in rows:
                row.end_lease(now)
            wipe({row.message for row in rows})
            return len(rows)

    def _all_become(self, rows: list[DeliveryRow], state: State, event: AttemptRecord) -> None:
        for row in rows:
            row.become(state, event, self._now())
        wipe({row.message for row in rows})

    def due(self, lane: Lane, limit: int, avoid: Collection[str | None] = ()) -> int:
        with self._lock:
            return min(limit, len(self._due(lane, avoid)))

    def pause(self, kind: str, name: str, seconds: float | None, reason: str, actor: Actor | None = None) -> Pause:
        with self._lock:
            if actor:
                self._act(actor, "pause", f"{kind} {name}", reason=reason)
            return self._brakes.pause(kind, name, seconds, reason, actor)

    def probe(self, relay: str, seconds: float) -> bool:
        with self._lock:
            return self._brakes.probe(relay, seconds)

    def resume(self, kind: str, name: str, actor: Actor | None = None) -> bool:
        with self._lock:
            lifted = self._brakes.resume(kind, name, actor)
            if lifted and actor:
                self._act(actor, "resume", f"{kind} {name}")
            return lifted

    def reopen(self, relay: str) -> None:
        with self._lock:
            self._brakes.reopen(relay)

    def tick(self, name: str, every: float) -> bool:
        with self._lock:
            return self._brakes.tick(name, every)

    # -- knowing

    def ticks(self) -> dict[str, float]:
        with self._lock:
            return self._brakes.granted()

    def pauses(self) -> list[Pause]:
        with self._lock:
            return self._brakes.standing()

    def unbalanced(self) -> list[tuple[str, int, int]]:
        with self._lock:
            found = [sums(row) for row in self._store.submissions.values()]
            return [(public_id, accepted, rows) for public_id, accepted, rows in found if accepted != rows]

    def accounts(self) -> Iterator[Account]:
        with self._lock:
            now = self._now()
            return iter([account(row, now) for row in self._store.deliveries.values()])

    def totals(self) -> Totals:
        with self._lock:
            return self._store.totals(self._now(), sum(reject.outcome is None for reject in self._rejects))

    def find(self, selector: Selector) -> Iterator[DeliveryRecord]:
        with self._lock:
            return iter([row.record() for row in self._store.select(selector)])

    def count(self, selector: Selector) -> int:
        with self._lock:
            return len(self._store.select(replace(selector, limit=None)))

    def submission(self, public_id: str) -> SubmissionRecord:
        with self._lock:
            row = self._store.first(public_id).message.submission
            states: defaultdict[State, int] = defaultdict(int)
            for delivery in row.deliveries:
                states[delivery.state] += 1
            return SubmissionRecord(
                id=row.public_id,
                lane=Lane(row.accepted.lane),
                accepted=row.count,
                accepted_at=row.accepted_at,
                states=dict(states),
                key=row.accepted.key,
                template=row.accepted.template_name,
                tags=tuple(row.accepted.tags),
            )

    def message(self, delivery: str) -> Lease:
        with self._lock:
            message = self._store.first(delivery).message
            return Lease("", 0.0, (message.view(message.deliveries),))

    # -- acting

    def change(
        self, selector: Selector, state: State, actor: Actor, progress: Callable[[int], None] = lambda _: None
    ) -> int:
        with self._lock:
            now, sources = self._now(), changeable(state)
            meant = self._store.select(replace(selector, limit=None))
            again = state is State.QUEUED
            rows = [row for row in meant if row.state in sources and not (again and self._stays(row))]
            rows = rows[: selector.limit]
            event = AttemptRecord(now, state, attempted=False, text=storable(actor.reason), actor=signature(actor))
            self._all_become(rows, state, event)
            for row in rows if again else ():
                row.due_at, row.attempts, row.crashes = now, 0, 0
                if row.expires_at <= now:
                    row.expires_at = now + row.message.submission.accepted.lifetime
            if rows:
                self._act(actor, *act_of(selector, state), count=len(rows))
            progress(len(rows))
            return len(rows)

    def _stays(self, row: DeliveryRow) -> bool:
        """Whether it is not tried again."""
        return row.message.secrets == WIPED or self.reports.cancelled(row.message.submission.public_id)

    def acts(self, *, since: float | None = None, limit: int = 100) -> list[Act]:
        with self._lock:
            return [act for act in reversed(self._acts) if since is None or act.at >= since][:limit]

    def _act(self, actor: Actor, verb: str, subject: str, *, count: int = 1, reason: str | None = None) -> Act:
        why = actor.reason if reason is None else reason
        made = Act(self._now(), storable(signature(actor)), verb, storable(subject), count, storable(why))
        self._acts.append(made)
        return made

    # -- keeping

    def retire(self, retention: Retention, limit: int) -> Retired:
        with self._lock:
            now = self._now()
            gone, taken = retire(self._store, retention, now, limit, self._goes_on)
            for row in gone:
                self._brakes.forget("submission", row.public_id)
            if taken < limit:
                self._store.forget_keys(now)
                over = {number for number, at in self._resolved.items() if at <= now - retention.default}
                self._rejects = [reject for reject in self._rejects if reject.id not in over]
                since = now - max(retention.default, ACT_SECONDS)
                self._acts = [act for act in self._acts if act.at > since]
            return Retired(len(gone), taken, more=taken == limit)

    def unused(self, blobs: Sequence[str]) -> list[str]:
        with self._lock:
            used = self._store.attached()
            return [blob for blob in blobs if blob not in used]

    # -- rejects

    def reject(self, *, door: str, reference: str, producer: str, payload: str, field: str, reason: str) -> Reject:
        with self._lock:
            texts = (door, reference, producer, payload, field, reason)
            made = Reject(next(self._numbers), self._now(), *map(storable, texts))
            same = [r for r in self._rejects if reference and (r.door, r.reference) == (made.door, made.reference)]
            if not same:
                self._rejects.append(made)
            return same[0] if same else made

    def rejects(self, *, id: int | None = None, limit: int = 100, open_only: bool = True) -> list[Reject]:  # noqa: A002 - the Protocol's name
        with self._lock:
            found = (r for r in reversed(self._rejects) if id in (None, r.id) and not (open_only and r.outcome))
            return list(found)[:limit]

    def resolve_reject(self, id: int, outcome: str, actor: Actor) -> None:  # noqa: A002 - the Protocol's name
        with self._lock:
            for n, each in enumerate(self._rejects):
                if each.id == id and each.outcome is None:
                    self._rejects[n] = replace(each, outcome=outcome)
                    self._resolved[id] = self._now()
                    self._act(actor, RESOLVED[outcome], f"reject {id}")
                    return
            raise NotFound(f"no open reject {id}")

    def close(self) -> None:
        """Nothing is held that would need giving up."""


def _receipt(row: SubmissionRow | None, public_id: str, accepted: int, *, duplicate: bool = False) -> Receipt:
    deliveries = list(row.deliveries)[:RECEIPT_RECIPIENTS] if row else []
    return Receipt(
        id=public_id,
        accepted=accepted,
        state=standing(delivery.state for delivery in deliveries),
        duplicate=duplicate,
        suppressed=sum(each.state is State.SUPPRESSED for each in row.deliveries) if row else 0,
        recipients=tuple(ReceiptRecipient(each.public_id, each.rcpt, each.state) for each in deliveries),
    )
