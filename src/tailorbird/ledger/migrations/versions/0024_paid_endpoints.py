"""What endpoints were paid: with the row of a request (endpoint, money), and by each step of a run. Nothing was before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_PAID = sa.text("endpoint <> ''")


def upgrade() -> None:
    op.add_column("requests", sa.Column("endpoint", sa.String, nullable=False, server_default=""))
    op.add_column("requests", sa.Column("paid", sa.Float, nullable=False, server_default=sa.text("0")))
    op.create_index("requests_paid", "requests", ["tenant", "endpoint", "at"], sqlite_where=_PAID, postgresql_where=_PAID)
    op.add_column("steps", sa.Column("paid", sa.Float, nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    op.drop_column("steps", "paid")
    op.drop_index("requests_paid", "requests")
    op.drop_column("requests", "paid")
    op.drop_column("requests", "endpoint")
