"""An index of the labels among what was said of answers: a page of them was looked for in everything that was ever said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

_LABELS = sa.text("kind = 'label'")


def upgrade() -> None:
    op.create_index("feedback_labels", "feedback", ["tenant", "request"], sqlite_where=_LABELS, postgresql_where=_LABELS)


def downgrade() -> None:
    op.drop_index("feedback_labels", "feedback")
