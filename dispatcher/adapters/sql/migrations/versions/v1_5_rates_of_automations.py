"""Until when the rate of an automation holds it. It only adds."""

import sqlalchemy as sa
from alembic import op

revision = "1.5"
down_revision = "1.4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("automations", sa.Column("held_until", sa.Double()))
