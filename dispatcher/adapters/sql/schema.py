"""The tables, the same on SQLite and PostgreSQL. Times are seconds since the epoch; ids are short integers.

    submissions --< messages --< deliveries --< attempts
              +---< blob_uses                    keys, templates, publications, blobs, rejects, pauses, acts, ticks
    audiences --< audience_versions --< audience_members, audience_rejects
                             +---< campaigns --- campaign_brakes                  suppressions
    schedules --< occurrences
    automations --< automation_versions          event_types    events
             +---< enrolments --< enrolment_steps
    reports (each with its submission)           messages --- report_files

``deliveries`` is the only table whose rows move, so it is narrow, and what workers ask for has partial indexes:
neither a million settled rows nor a million that wait make a lease slower.
"""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    func,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import UserDefinedType

from dispatcher.enrolment import FORGOTTEN
from dispatcher.ledger import storable
from dispatcher.written import Written

_encode = json.JSONEncoder(separators=(",", ":")).encode


def written(value: Any) -> str | None:
    """JSON as its columns have it."""
    if isinstance(value, Written):
        return value.text
    if not value:  # most often, and not worth starting an encoder for
        return None if value is None else "{}" if value == {} else "[]" if value in ([], ()) else _encode(value)
    return _encode(value)


class Json(UserDefinedType[Any]):
    """JSON as text: PostgreSQL's own types refuse escapes (NUL, lone surrogates) that a producer's JSON may hold."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:  # noqa: ARG002 - SQLAlchemy's signature
        return written

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], Any]:  # noqa: ARG002 - the same
        return lambda value: None if value is None else json.loads(value)


class Words(UserDefinedType[str]):
    """Text that came from outside: a reply, a key, a payload."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TEXT"

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:  # noqa: ARG002 - SQLAlchemy's signature
        return lambda value: None if value is None else storable(value)


Id = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER PRIMARY KEY counts up by itself in SQLite
SCHEMA = "1.5"  # major.minor: code works on any newer minor of its major
WAITING = "state IN ('queued', 'deferred')"
PINNED = f"{WAITING} AND relay IS NOT NULL"
# In the words of the partial indexes: with bound parameters, a planner could not see that an index has these rows.
IN_DUE_INDEX, IN_LEASE_INDEX = and_(text(WAITING)), and_(text("state = 'leased'"))
IN_DOUBT_INDEX = and_(text("state = 'in_doubt'"))

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

submissions = Table(
    "submissions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("public_id", String(16), nullable=False, unique=True),
    Column("seed", BigInteger, nullable=False),
    Column("lane", String(16), nullable=False),
    Column("relay", Text),
    Column("template", String(64)),
    Column("template_name", Text),
    Column("shared", Json, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("accepted_at", Double, nullable=False),
    Column("send_at", Double),
    Column("lifetime", Double, nullable=False),
    Column("if_in_doubt", String(16), nullable=False),
    Column("tags", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("labels", Json, nullable=False),  # the metadata as "key=value", to be searched
    Column("producer", Words, nullable=False),
    Column("key", Words),
    Column("blobs_noted", Boolean),  # its attachments stand in `blob_uses`; NULL: a program of 1.0 took it in
    Column("list", Text),  # the list that this is marketing for; NULL: it is none
)
Index(
    "ix_submissions_blobs_unnoted",
    submissions.c.id,
    sqlite_where=text("blobs_noted IS NULL"),
    postgresql_where=text("blobs_noted IS NULL"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("submission_id", Id, ForeignKey("submissions.id", ondelete="CASCADE"), nullable=False),
    Column("n", Integer, nullable=False),
    Column("own", Json, nullable=False),
    Column("labels", Json),  # of the submission's and the message's metadata, where the message has any
    Column("secrets", Json),  # the submission's too, so that they go when this message is settled
    Column("sha256", String(64)),
    Column("build", Text),
    UniqueConstraint("submission_id", "n"),
    postgresql_with={"fillfactor": "90"},
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("message_id", Id, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("submission_id", Id, nullable=False, index=True),  # the message's foreign key covers it
    Column("lane", String(16), nullable=False),
    Column("relay", Text),  # the one that was asked for
    Column("k", Integer, nullable=False),
    Column("rcpt", Text, nullable=False),
    Column("kind", String(3), nullable=False),
    Column("state", String(16), nullable=False),
    Column("due_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("token", String(32)),
    Column("lease_until", Double),
    Column("owner", Text),
    # What happened last. It moves to `attempts` when something else happens, which for most mail is never.
    Column("last_state", String(16)),
    Column("last_at", Double),
    Column("last_attempted", Boolean),
    Column("last_relay", Text),
    Column("phase", String(8)),
    Column("code", Integer),
    Column("enhanced", String(16)),
    Column("text", Words),
    Column("seconds", Double),
    Column("actor", Words),
    postgresql_with={"fillfactor": "70"},  # room to update a row in its page
)
Index(
    "ix_deliveries_due",
    deliveries.c.lane,
    deliveries.c.due_at,
    deliveries.c.submission_id,  # these two, so that what a pause covers is passed over inside the index
    deliveries.c.relay,
    sqlite_where=text(WAITING),
    postgresql_where=text(WAITING),
)
Index(
    "ix_deliveries_pinned",  # what asks for a relay: the few among the many that may go while the others are held
    deliveries.c.lane,
    deliveries.c.due_at,
    deliveries.c.relay,
    sqlite_where=text(PINNED),
    postgresql_where=text(PINNED),
)
Index(
    "ix_deliveries_lease",
    deliveries.c.lease_until,
    sqlite_where=text("state = 'leased'"),
    postgresql_where=text("state = 'leased'"),
)
Index(
    "ix_deliveries_in_doubt",
    deliveries.c.submission_id,
    sqlite_where=text("state = 'in_doubt'"),
    postgresql_where=text("state = 'in_doubt'"),
)
Index("ix_deliveries_rcpt", func.lower(deliveries.c.rcpt))

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("delivery_id", Id, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("at", Double, nullable=False),
    Column("attempted", Boolean, nullable=False),
    Column("relay", Text),
    Column("phase", String(8)),
    Column("code", Integer),
    Column("enhanced", String(16)),
    Column("text", Words, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("actor", Words),
)

keys = Table(  # outlives the submission
    "keys",
    metadata,
    Column("key", Words, primary_key=True),
    Column("producer", Words, primary_key=True),
    Column("submission", String(16), nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("fingerprints", Json, nullable=False),
    Column("keep_until", Double, nullable=False),
    Column("gone", Boolean),  # its submission is over its retention
)
Index("ix_keys_gone", keys.c.keep_until, sqlite_where=text("gone"), postgresql_where=text("gone"))

templates = Table(
    "templates",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("files", Json, nullable=False),
    Column("published_at", Double, nullable=False),
)

publications = Table(  # the version of each template that new mail is rendered with
    "publications",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("actor", Words, nullable=False),
    Column("reason", Words, nullable=False),
)

blobs = Table(  # attachments, where servers share no folder
    "blobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("touched_at", Double, nullable=False),  # when it was put last
    Column("content", LargeBinary, nullable=False),
)

blob_uses = Table(  # whichever store the attachments are in
    "blob_uses",
    metadata,
    Column("submission_id", Id, ForeignKey("submissions.id", ondelete="CASCADE"), primary_key=True),
    Column("blob", String(64), primary_key=True, index=True),
)

rejects = Table(
    "rejects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Double, nullable=False),
    Column("door", Words, nullable=False),
    Column("reference", Words, nullable=False),
    Column("producer", Words, nullable=False),
    Column("payload", Words, nullable=False),
    Column("field", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("outcome", String(16)),
    Column("resolved_at", Double),
    Column("actor", Words),
    Column("note", Words),
)
Index(
    "uq_rejects_door_reference",
    rejects.c.door,
    rejects.c.reference,
    unique=True,
    sqlite_where=text("reference <> ''"),
    postgresql_where=text("reference <> ''"),
)

pauses = Table(
    "pauses",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("name", Words, primary_key=True),
    Column("until", Double),
    Column("since", Double, nullable=False),
    Column("reason", Words, nullable=False),
    Column("actor", Words),
    # An automatic pause that is over: the relay is half open. Whoever sets this to later than now may try it;
    # NULL: the relay is used as ever.
    Column("probe_until", Double),
)

acts = Table(  # what people did
    "acts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("actor", Words, nullable=False),
    Column("act", String(32), nullable=False),
    Column("subject", Words, nullable=False),
    Column("count", Integer, nullable=False),
    Column("reason", Words, nullable=False),
)

ticks = Table(
    "ticks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("at", Double, nullable=False),
)

suppressions = Table(  # whom not to write to
    "suppressions",
    metadata,
    Column("address", Text, primary_key=True),  # as `suppression.normal` has it
    Column("scope", String(80), primary_key=True),  # all, marketing, or list:NAME
    Column("reason", String(16), nullable=False),
    Column("evidence", Words, nullable=False),  # the reply, or whatever else shows it
    Column("origin", Words, nullable=False),  # the message that it came of, or the door
    Column("at", Double, nullable=False),
    Column("until", Double),  # NULL: for good
    Column("actor", Words),
)

audiences = Table(
    "audiences",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
)

audience_versions = Table(  # never changed once it is ready
    "audience_versions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("audience_id", Id, ForeignKey("audiences.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("ready_at", Double),  # NULL: it is being read, or was given up
    Column("made_at", Double, nullable=False),
    Column("source", Words, nullable=False),
    Column("columns", Json, nullable=False),  # [{"name", "type", "source"}]
    Column("rows", Integer, nullable=False),  # = kept + bad + doubled
    Column("kept", Integer, nullable=False),
    Column("bad", Integer, nullable=False),
    Column("doubled", Integer, nullable=False),
    Column("actor", Words, nullable=False),
    UniqueConstraint("audience_id", "version"),
)

audience_members = Table(
    "audience_members",
    metadata,
    Column("version_id", Id, ForeignKey("audience_versions.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),  # the number of its row in the source
    Column("address", Text, nullable=False),  # as `suppression.normal` has it
    Column("shown", Text, nullable=False),  # as it stands in To
    Column("attributes", Json, nullable=False),
    # Nothing but appending while it is read, at a rate that does not fall: an index by address would be written all
    # over for every row. That no address is there twice is seen to when the version is made ready.
    sqlite_with_rowid=False,
)

audience_rejects = Table(  # the rows that are in no audience, and why
    "audience_rejects",
    metadata,
    Column("version_id", Id, ForeignKey("audience_versions.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("field", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("doubled", Boolean, nullable=False),  # nothing is wrong with it, but the address was there before
    Column("payload", Words, nullable=False),
    sqlite_with_rowid=False,
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("spec", Json, nullable=False),
    Column("version_id", Id, ForeignKey("audience_versions.id"), index=True),  # frozen when it is checked
    Column("checked", Json),  # what the check found
    Column("submission_id", Id, index=True),  # since it was started; NULL again after its retention
    Column("submission", String(16)),  # its public id
    Column("cursor", Integer, nullable=False),  # the last row of the audience that was expanded
    Column("filtered", Integer, nullable=False),  # rows up to there that were not meant
    Column("expanded", Integer, nullable=False),  # and those that became messages
    Column("complete", Boolean, nullable=False),  # there are no more
    Column("sums", Json),  # by state, when it had finished: its rows may be gone by now
    Column("reason", Words, nullable=False),  # why it is paused, cancelled
    Column("start_at", Double),
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("reported_at", Double),  # when the owner was told that it had
    Column("actor", Words, nullable=False),  # who changed it last
)

campaign_brakes = Table(  # what the relays said of late; a row of its own, since it changes with every settle
    "campaign_brakes",
    metadata,
    Column("campaign_id", Id, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("replies", Text, nullable=False),  # the last ones, each 0 (taken) or 1 (refused)
    Column("text", Words, nullable=False),  # the last refusal
    Column("streak", Integer, nullable=False),  # how many in a row had this text
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("spec", Json, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("reason", Words, nullable=False),  # why it is paused
    Column("seen_until", Double, nullable=False),  # occurrences up to here stand below, or were none
    Column("next_at", Double),  # the first one behind; NULL: there is none any more
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("actor", Words, nullable=False),
)

occurrences = Table(  # what a schedule has asked for, each once
    "occurrences",
    metadata,
    Column("schedule_id", Id, ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True),
    Column("at", Double, primary_key=True),
    Column("state", String(16), nullable=False),  # due, fired, late, skipped, failed
    Column("by_hand", Boolean, nullable=False),
    Column("outcome", Words, nullable=False),  # the submission, the campaign, or why not
    Column("changed_at", Double, nullable=False),
)
Index(
    "ix_occurrences_due",
    occurrences.c.at,
    sqlite_where=text("state = 'due'"),
    postgresql_where=text("state = 'due'"),
)

automations = Table(
    "automations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("version", Integer, nullable=False),  # the one that takes people in
    Column("paused", Boolean, nullable=False),
    Column("reason", Words, nullable=False),  # why it is paused
    # By dates: the day that is looked through, in which version of the audience, up to which row; and when to go on.
    Column("scan_day", String(10)),
    Column("scan_version", Id),
    Column("scan_after", Integer),
    Column("scan_at", Double),  # NULL: it is not by dates
    Column("held_until", Double),  # by its own rate
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("actor", Words, nullable=False),
    sqlite_autoincrement=True,  # a number is never given again: what is known of it is kept by it
)

automation_versions = Table(  # never changed: who was taken in by one goes through it to the end
    "automation_versions",
    metadata,
    Column("automation_id", Id, ForeignKey("automations.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Json, nullable=False),
    Column("loaded_at", Double, nullable=False),
    Column("actor", Words, nullable=False),
)

event_types = Table(
    "event_types",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("document", Json, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("actor", Words, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("event_id", Words, nullable=False),  # the producer's
    Column("producer", Words, nullable=False),
    Column("at", Double, nullable=False),
    Column("received_at", Double, nullable=False, index=True),
    Column("data", Json, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    UniqueConstraint("event_id", "producer"),
)

enrolments = Table(  # one for each key, for good: what it held goes in its time, that it was stays
    "enrolments",
    metadata,
    Column("id", Id, primary_key=True),
    Column("automation_id", Id, ForeignKey("automations.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("key", Words, nullable=False),
    Column("state", String(16), nullable=False),  # expected, active, finished, exited, failed
    Column("revision", Integer, nullable=False),
    Column("step", Text),
    Column("awaits", Text),
    Column("planned_at", Double),
    Column("due_at", Double),
    Column("since", Double, nullable=False),
    Column("address", Words, nullable=False),
    Column("data", Json, nullable=False),
    Column("seen", Json, nullable=False),
    Column("mail", String(16)),  # the public id of its last submission
    Column("outcome", Words, nullable=False),
    Column("entered_at", Double),
    Column("changed_at", Double, nullable=False),
    UniqueConstraint("automation_id", "key"),
    sqlite_autoincrement=True,  # as above: the key of a mail has it
)
Index(  # by automation: who is in one that is paused is not walked through
    "ix_enrolments_next",
    enrolments.c.automation_id,
    enrolments.c.due_at,
    sqlite_where=text("state = 'active' AND due_at IS NOT NULL"),
    postgresql_where=text("state = 'active' AND due_at IS NOT NULL"),
)
Index(  # but for those of whom nothing but the key is known any more, who grow more and more
    "ix_enrolments_known",
    enrolments.c.automation_id,
    enrolments.c.state,
    enrolments.c.changed_at,
    sqlite_where=text(f"outcome <> '{FORGOTTEN}'"),
    postgresql_where=text(f"outcome <> '{FORGOTTEN}'"),
)

enrolment_steps = Table(
    "enrolment_steps",
    metadata,
    Column("enrolment_id", Id, ForeignKey("enrolments.id", ondelete="CASCADE"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("step", Text, nullable=False),
    Column("planned_at", Double, nullable=False),
    Column("at", Double, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("detail", Words, nullable=False),
)

reports = Table(  # each is one submission
    "reports",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("state", String(16), nullable=False),  # taking, sending, finished, cancelled
    Column("spec", Json, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("files", Json, nullable=False),  # that go to all
    Column("missing", Json, nullable=False),  # addresses that were left out
    Column("submission_id", Id, nullable=False),  # it may be over its retention before the report is
    Column("submission", String(16), nullable=False),
    Column("cursor", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("sums", Json),  # as they stood when it was over
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("reported_at", Double),
    Column("actor", Words, nullable=False),
)

report_files = Table(  # what was rendered for a message, before it was first sent
    "report_files",
    metadata,
    Column("message_id", Id, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("attachment", Json, nullable=False),
)
