"""What several machines share: published templates, attachments, acts of people, probes of relays. It only adds.

Indexes of tables that there were before are not made here, but by ``engine.upgrade``, which locks nobody out meanwhile.
"""

import sqlalchemy as sa
from alembic import op

revision = "1.1"
down_revision = "1.0"
branch_labels = None
depends_on = None

_CLEAN_OFTEN = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02"
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("submissions", sa.Column("blobs_noted", sa.Boolean()))
    op.add_column("pauses", sa.Column("probe_until", sa.Double()))
    op.add_column("keys", sa.Column("gone", sa.Boolean()))
    op.create_table(
        "publications",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_publications"),
    )
    op.create_table(
        "blobs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_blobs"),
    )
    if op.get_bind().dialect.name == "postgresql":  # a PDF is compressed already
        op.execute("ALTER TABLE blobs ALTER COLUMN content SET STORAGE EXTERNAL")
    op.create_table(
        "blob_uses",
        sa.Column("submission_id", _ID, nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("submission_id", "blob", name="pk_blob_uses"),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name="fk_blob_uses_submission_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_blob_uses_blob", "blob_uses", ["blob"])
    op.create_table(
        "acts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("act", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_acts"),
    )
    op.create_index("ix_acts_at", "acts", ["at"])
    if op.get_bind().dialect.name == "postgresql":
        # Else a fifth of a table is dead rows, and walked through, before the server cleans up by itself.
        for table in ("submissions", "messages", "deliveries", "keys"):
            op.execute(f"ALTER TABLE {table} SET ({_CLEAN_OFTEN})")
        op.execute("ALTER TABLE messages SET (fillfactor = 90)")  # what they were sent as is noted in the same page
