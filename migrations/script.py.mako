"""${message}.

A migration changes the schema only, stays readable by the release before it, never calls code of
the product, and is never edited once it has shipped. Each of its steps does nothing where it has
been done: MySQL and MariaDB keep what a migration had done when it died.
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
