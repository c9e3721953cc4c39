"""Automations, events, and who is where in them. It only adds."""

import sqlalchemy as sa
from alembic import op

revision = "1.3"
down_revision = "1.2"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _automations()
    _events()
    _enrolments()


def _automations() -> None:
    op.create_table(
        "automations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scan_day", sa.String(length=10)),
        sa.Column("scan_version", _ID),
        sa.Column("scan_after", sa.Integer()),
        sa.Column("scan_at", sa.Double()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_automations"),
        sa.UniqueConstraint("name", name="uq_automations_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "automation_versions",
        sa.Column("automation_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("loaded_at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("automation_id", "version", name="pk_automation_versions"),
        sa.ForeignKeyConstraint(
            ["automation_id"],
            ["automations.id"],
            name="fk_automation_versions_automation_id",
            ondelete="CASCADE",
        ),
    )


def _events() -> None:
    op.create_table(
        "event_types",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_event_types"),
    )
    op.create_table(
        "events",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("producer", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("event_id", "producer", name="uq_events_event_id_producer"),
    )
    op.create_index("ix_events_received_at", "events", ["received_at"])


def _enrolments() -> None:
    op.create_table(
        "enrolments",
        sa.Column("id", _ID, nullable=False),
        sa.Column("automation_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text()),
        sa.Column("awaits", sa.Text()),
        sa.Column("planned_at", sa.Double()),
        sa.Column("due_at", sa.Double()),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("seen", sa.Text(), nullable=False),
        sa.Column("mail", sa.String(length=16)),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("entered_at", sa.Double()),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_enrolments"),
        sa.UniqueConstraint("automation_id", "key", name="uq_enrolments_automation_id_key"),
        sa.ForeignKeyConstraint(
            ["automation_id"], ["automations.id"], name="fk_enrolments_automation_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "enrolment_steps",
        sa.Column("enrolment_id", _ID, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("planned_at", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("enrolment_id", "n", name="pk_enrolment_steps"),
        sa.ForeignKeyConstraint(
            ["enrolment_id"], ["enrolments.id"], name="fk_enrolment_steps_enrolment_id", ondelete="CASCADE"
        ),
    )
