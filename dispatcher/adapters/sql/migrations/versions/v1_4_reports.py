"""Reports, and the files that were rendered for their mails. It only adds."""

import sqlalchemy as sa
from alembic import op

revision = "1.4"
down_revision = "1.3"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("missing", sa.Text(), nullable=False),
        sa.Column("submission_id", _ID, nullable=False),
        sa.Column("submission", sa.String(length=16), nullable=False),
        sa.Column("cursor", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("sums", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.Column("reported_at", sa.Double()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        sa.UniqueConstraint("name", name="uq_reports_name"),
    )
    op.create_table(
        "report_files",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.Column("attachment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_report_files"),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name="fk_report_files_message_id", ondelete="CASCADE"),
    )
