"""The Python API: the use cases as typed calls, in a workspace on this machine or on a server by URL.

In: a workspace or a server, and an identity with its key. Out: the values of the use cases, with tables for notebooks. Must not know: the
command line, which is built on it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailorbird.sdk.runs import TenantRun, TenantRuns
    from tailorbird.sdk.session import Answer
    from tailorbird.sdk.tables import InspectionView, PlanView, ReleaseTable, RunTable, RunView, TenantTable
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

#: Class → its module.
_MODULES = {"Answer": "session", "TenantRun": "runs", "TenantRuns": "runs", "Workspace": "workspace"}


def __getattr__(name: str) -> Any:
    """The class ``name``, loaded on first use: a command of the command line loads no more than it needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'tables')}"), name)
