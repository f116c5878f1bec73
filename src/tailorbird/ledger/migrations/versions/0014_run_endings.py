"""How a run ended: a failed step keeps its error's message and hint, and a run without a release is not one that is done.

Runs of before that ended without a release are found by what their last step left. What their failed steps said is not known.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"

_TOLD = ("message", "hint")

_runs = sa.table("runs", *(sa.column(name) for name in ("tenant", "id", "state")))
_steps = sa.table("steps", *(sa.column(name) for name in ("tenant", "run", "name", "state", "result")))
_records = sa.table("records", *(sa.column(name) for name in ("tenant", "kind", "digest", "body")))


def upgrade() -> None:
    for name in _TOLD:
        op.add_column("steps", sa.Column(name, sa.Text))
    database = op.get_bind()
    ended = (
        sa.select(_runs.c.tenant, _runs.c.id, _records.c.body)
        .join(_steps, sa.and_(_steps.c.tenant == _runs.c.tenant, _steps.c.run == _runs.c.id))
        .join(_records, sa.and_(_records.c.tenant == _steps.c.tenant, _records.c.digest == _steps.c.result))
        .where(_runs.c.state == "done", _steps.c.name == "conclude", _steps.c.state == "done", _records.c.kind == "Conclusion")
    )
    for tenant, run, body in database.execute(ended).all():
        if json.loads(body).get("release") is None:
            here = sa.and_(_runs.c.tenant == tenant, _runs.c.id == run)
            database.execute(sa.update(_runs).where(here).values(state="no_release"))


def downgrade() -> None:
    op.get_bind().execute(sa.update(_runs).where(_runs.c.state == "no_release").values(state="done"))
    for name in _TOLD:
        op.drop_column("steps", name)
