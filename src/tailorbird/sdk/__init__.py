"""The Python API: the use cases as typed calls, in a workspace on this machine or on a server by URL.

In: a workspace or a server, and an identity with its key. Out: the values of the use cases, with tables for notebooks. Must not know: the
command line, which is built on it.
"""

from tailorbird.sdk.answers import Answer
from tailorbird.sdk.tables import InspectionView, PlanView, ReleaseTable, RunTable, RunView, TenantTable
from tailorbird.sdk.tenant_runs import TenantRun, TenantRuns
from tailorbird.sdk.workspace import Workspace

__all__ = [
    "Answer",
    "InspectionView",
    "PlanView",
    "ReleaseTable",
    "RunTable",
    "RunView",
    "TenantRun",
    "TenantRuns",
    "TenantTable",
    "Workspace",
]
