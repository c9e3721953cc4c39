"""The ledger in SQL. Each method is one transaction; what happens in it stands in the file named for it."""

from collections.abc import Callable, Collection, Iterator, Sequence

from dispatcher.adapters.sql import (
    accepting,
    acting,
    changing,
    leasing,
    pausing,
    proving,
    publishing,
    reading,
    rejecting,
    settling,
    using,
)
from dispatcher.adapters.sql.audiences import SqlAudiences
from dispatcher.adapters.sql.automations import SqlAutomations
from dispatcher.adapters.sql.blobs import LedgerBlobs
from dispatcher.adapters.sql.campaigns import SqlCampaigns
from dispatcher.adapters.sql.database import Database
from dispatcher.adapters.sql.reports import SqlReports
from dispatcher.adapters.sql.retiring import Retiring
from dispatcher.adapters.sql.schedules import SqlSchedules
from dispatcher.adapters.sql.suppressions import SqlSuppressions
from dispatcher.delivery import Actor, Lane, Lease, Selector, Settlement, State
from dispatcher.errors import IdempotencyConflict
from dispatcher.ledger import KEY_SECONDS
from dispatcher.mail import Accepted, Receipt
from dispatcher.records import (
    Account,
    Act,
    DeliveryRecord,
    Pause,
    Publication,
    Reject,
    Retired,
    SubmissionRecord,
    Totals,
)
from dispatcher.retention import Retention
from dispatcher.template import TemplateVersion


class SqlLedger:
    """``interfaces.Ledger`` on SQLite (3.35 or newer) or PostgreSQL, by the database's clock.

    It connects when it is first used, and anew in a child made by fork; threads share it. Every method raises
    ConfigurationError when the ledger's schema is none that this code can use (see ``engine.upgrade``).
    ``key_seconds``: how long an idempotency key is remembered; while its submission is kept, it is remembered anyway.
    """

    def __init__(self, url: str, *, key_seconds: float = KEY_SECONDS) -> None:
        self._database = Database(url)
        self._retiring = Retiring(self._database)
        self._key_seconds = key_seconds
        self.suppressions = SqlSuppressions(self._database)
        self.campaigns = SqlCampaigns(self._database)
        self.audiences = SqlAudiences(self._database)
        self.schedules = SqlSchedules(self._database)
        self.automations = SqlAutomations(self._database)
        self.reports = SqlReports(self._database)

    def blobs(self) -> LedgerBlobs:
        """Attachments in the same database, over the same connections."""
        return LedgerBlobs(self._database)

    # -- accepting

    def add(self, submissions: Sequence[Accepted]) -> list[Receipt | IdempotencyConflict]:
        with self._database.writing() as tx:
            return accepting.add(tx, submissions, self._key_seconds)

    def put_template(self, digest: str, name: str, files: dict[str, str]) -> None:
        with self._database.writing() as tx:
            publishing.put_template(tx, digest, name, files)

    def template(self, digest: str) -> tuple[str, dict[str, str]]:
        with self._database.reading() as tx:
            return publishing.template(tx, digest)

    def publish(self, versions: Sequence[TemplateVersion], actor: Actor) -> list[Publication]:
        with self._database.writing() as tx:
            return publishing.publish(tx, versions, actor)

    def publications(self) -> dict[str, Publication]:
        with self._database.reading() as tx:
            return publishing.listed(tx)

    def template_versions(self, name: str) -> list[tuple[str, float]]:
        with self._database.reading() as tx:
            return publishing.versions(tx, name)

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
        # Most bells that name messages ring for what went with the lease before: none of them need keep others out.
        if messages and self._database.one_writes and not self.due(lane, 1, avoid):
            return Lease("", 0.0)
        with self._database.writing() as tx:
            taken = leasing.lease(tx, lane, limit=limit, seconds=seconds, owner=owner, named=messages, avoid=avoid)
        return taken.lease()

    def settle(self, token: str, settlements: Sequence[Settlement]) -> int:
        with self._database.writing() as tx:
            return settling.settle(tx, token, settlements)

    def held(self, owner: str) -> list[Lease]:
        with self._database.reading() as tx:
            return leasing.held(tx, owner)

    def reclaim(self, living: Collection[str] = (), grace: float = 0.0) -> int:
        with self._database.writing() as tx:
            return leasing.reclaim(tx, living, grace)

    def due(self, lane: Lane, limit: int, avoid: Collection[str | None] = ()) -> int:
        with self._database.reading() as tx:
            return leasing.due(tx, lane, limit, avoid)

    def pause(self, kind: str, name: str, seconds: float | None, reason: str, actor: Actor | None = None) -> Pause:
        with self._database.writing() as tx:
            return pausing.pause(tx, kind, name, seconds, reason, actor)

    def probe(self, relay: str, seconds: float) -> bool:
        with self._database.writing() as tx:
            return pausing.probe(tx, relay, seconds)

    def resume(self, kind: str, name: str, actor: Actor | None = None) -> bool:
        with self._database.writing() as tx:
            return pausing.resume(tx, kind, name, actor)

    def reopen(self, relay: str) -> None:
        with self._database.writing() as tx:
            pausing.reopen(tx, relay)

    def tick(self, name: str, every: float) -> bool:
        with self._database.writing() as tx:
            return pausing.tick(tx, name, every)

    # -- knowing

    def ticks(self) -> dict[str, float]:
        with self._database.reading() as tx:
            return pausing.granted(tx)

    def pauses(self) -> list[Pause]:
        with self._database.reading() as tx:
            return pausing.standing(tx)

    def unbalanced(self) -> list[tuple[str, int, int]]:
        with self._database.reading() as tx:
            return proving.unbalanced(tx)

    def accounts(self) -> Iterator[Account]:
        return proving.accounts(self._database)

    def totals(self) -> Totals:
        with self._database.reading() as tx:
            return reading.totals(tx)

    def find(self, selector: Selector) -> Iterator[DeliveryRecord]:
        return reading.find(self._database, selector)

    def count(self, selector: Selector) -> int:
        with self._database.reading() as tx:
            return reading.count(tx, selector)

    def submission(self, public_id: str) -> SubmissionRecord:
        with self._database.reading() as tx:
            return reading.submission(tx, public_id)

    def message(self, delivery: str) -> Lease:
        with self._database.reading() as tx:
            return reading.message(tx, delivery)

    # -- acting

    def change(
        self, selector: Selector, state: State, actor: Actor, progress: Callable[[int], None] = lambda _: None
    ) -> int:
        return changing.change(self._database, selector, state, actor, progress)

    def acts(self, *, since: float | None = None, limit: int = 100) -> list[Act]:
        with self._database.reading() as tx:
            return acting.listed(tx, since, limit)

    # -- keeping

    def retire(self, retention: Retention, limit: int) -> Retired:
        return self._retiring.step(retention, limit)

    def unused(self, blobs: Sequence[str]) -> list[str]:
        with self._database.reading() as tx:
            return using.unused(tx, blobs)

    # -- rejects

    def reject(self, *, door: str, reference: str, producer: str, payload: str, field: str, reason: str) -> Reject:
        with self._database.writing() as tx:
            return rejecting.reject(
                tx, door=door, reference=reference, producer=producer, payload=payload, field=field, reason=reason
            )

    def rejects(self, *, id: int | None = None, limit: int = 100, open_only: bool = True) -> list[Reject]:  # noqa: A002 - the Protocol's name
        with self._database.reading() as tx:
            return rejecting.listed(tx, id, limit, open_only=open_only)

    def resolve_reject(self, id: int, outcome: str, actor: Actor) -> None:  # noqa: A002 - the Protocol's name
        with self._database.writing() as tx:
            rejecting.resolve(tx, id, outcome, actor)

    def close(self) -> None:
        """Give up the connections."""
        self._database.close()
