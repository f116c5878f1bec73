"""All operations. What is not here cannot be asked from outside.

In: the operations of each noun. Out: ``OPERATIONS``. Must not know: who calls from where.
"""

from __future__ import annotations

from tailorbird.lifecycle.control import looking, people, plans, releases, runs
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
    people.ME,
    people.LIST,
    people.ADD,
    people.DISABLE,
    people.ROTATE,
    people.KEYS,
    people.CREATE_KEY,
    people.REVOKE_KEY,
    people.ROTATE_KEY,
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
