"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}  # major.minor, as schema.SCHEMA; a minor only adds
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
