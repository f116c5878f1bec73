"""All operations. What is not here cannot be asked from outside.

In: the operations of each noun. Out: ``OPERATIONS``. Must not know: who calls from where.
"""

from __future__ import annotations

from tailorbird.lifecycle.control import feedback, looking, people, plans, releases, rollouts, runs, tenants
from tailorbird.lifecycle.control.operation import AnyOperation

OPERATIONS: tuple[AnyOperation, ...] = (
    runs.SUBMIT,
    runs.LIST,
    runs.SHOW,
    runs.JOBS,
    runs.JOB,
    runs.CANCEL,
    runs.ALLOW,
    plans.ACCURACY,
    plans.WHAT_IF,
    releases.LIST,
    releases.SHOW,
    releases.CARD,
    releases.STATEMENT,
    releases.DECIDE,
    releases.STAGE,
    releases.PROMOTE,
    releases.ALIASES,
    releases.ROLL_BACK,
    rollouts.DRILL,
    rollouts.START,
    rollouts.LIST,
    rollouts.SHOW,
    rollouts.DECIDE,
    people.ME,
    people.LIST,
    people.ADD,
    people.DISABLE,
    people.ROTATE,
    people.KEYS,
    people.CREATE_KEY,
    people.REVOKE_KEY,
    people.ROTATE_KEY,
    tenants.LIST,
    tenants.ADD,
    tenants.LIMIT,
    tenants.SUSPEND,
    tenants.REMOVE,
    tenants.POLICY,
    feedback.GIVE,
    feedback.QUEUE,
    feedback.SETTLE,
    looking.EXPLAIN,
    looking.TRAFFIC,
    looking.SIGNALS,
    looking.WATCH,
    looking.LOG,
    looking.VERIFY,
    looking.CHECKPOINT,
    looking.INCLUSION,
    looking.CONSISTENCY,
    looking.MODELS,
)
