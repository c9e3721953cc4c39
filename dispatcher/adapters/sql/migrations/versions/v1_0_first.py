"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "1.0"  # major.minor, as schema.SCHEMA; a minor only adds
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _submissions()
    _messages()
    _deliveries()
    _attempts()
    _keys()
    _templates()
    _rejects()
    _pauses()
    _ticks()


def _submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("public_id", sa.String(length=16), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("relay", sa.Text()),
        sa.Column("template", sa.String(length=64)),
        sa.Column("template_name", sa.Text()),
        sa.Column("shared", sa.Text(), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("accepted_at", sa.Double(), nullable=False),
        sa.Column("send_at", sa.Double()),
        sa.Column("lifetime", sa.Double(), nullable=False),
        sa.Column("if_in_doubt", sa.String(length=16), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("key", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_submissions"),
        sa.UniqueConstraint("public_id", name="uq_submissions_public_id"),
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", _ID, nullable=False),
        sa.Column("submission_id", _ID, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("own", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text()),
        sa.Column("secrets", sa.Text()),
        sa.Column("sha256", sa.String(length=64)),
        sa.Column("build", sa.Text()),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name="fk_messages_submission_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.UniqueConstraint("submission_id", "n", name="uq_messages_submission_id_n"),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("submission_id", _ID, nullable=False),
        sa.Column("lane", sa.String(length=16), nullable=False),
        sa.Column("relay", sa.Text()),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("rcpt", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=3), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=32)),
        sa.Column("lease_until", sa.Double()),
        sa.Column("owner", sa.Text()),
        sa.Column("last_state", sa.String(length=16)),
        sa.Column("last_at", sa.Double()),
        sa.Column("last_attempted", sa.Boolean()),
        sa.Column("last_relay", sa.Text()),
        sa.Column("phase", sa.String(length=8)),
        sa.Column("code", sa.Integer()),
        sa.Column("enhanced", sa.String(length=16)),
        sa.Column("text", sa.Text()),
        sa.Column("seconds", sa.Double()),
        sa.Column("actor", sa.Text()),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_deliveries_message_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["lane", "due_at", "submission_id", "relay"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'deferred')"),
        postgresql_where=sa.text("state IN ('queued', 'deferred')"),
    )
    op.create_index(
        "ix_deliveries_lease",
        "deliveries",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index("ix_deliveries_message_id", "deliveries", ["message_id"], unique=False)
    op.create_index("ix_deliveries_submission_id", "deliveries", ["submission_id"], unique=False)
    op.create_index("ix_deliveries_rcpt", "deliveries", [sa.text("lower(rcpt)")])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("attempted", sa.Boolean(), nullable=False),
        sa.Column("relay", sa.Text()),
        sa.Column("phase", sa.String(length=8)),
        sa.Column("code", sa.Integer()),
        sa.Column("enhanced", sa.String(length=16)),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text()),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name="fk_attempts_delivery_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
    )
    op.create_index("ix_attempts_delivery_id", "attempts", ["delivery_id"], unique=False)


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("submission", sa.String(length=16), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("fingerprints", sa.Text(), nullable=False),
        sa.Column("keep_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", "producer", name="pk_keys"),
    )


def _templates() -> None:
    op.create_table(
        "templates",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_templates"),
    )


def _rejects() -> None:
    op.create_table(
        "rejects",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=16)),
        sa.Column("resolved_at", sa.Double()),
        sa.Column("actor", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_rejects"),
    )
    op.create_index(
        "uq_rejects_door_reference",
        "rejects",
        ["door", "reference"],
        unique=True,
        sqlite_where=sa.text("reference <> ''"),
        postgresql_where=sa.text("reference <> ''"),
    )


def _pauses() -> None:
    op.create_table(
        "pauses",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("until", sa.Double()),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text()),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_pauses"),
    )


def _ticks() -> None:
    op.create_table(
        "ticks",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_ticks"),
    )
