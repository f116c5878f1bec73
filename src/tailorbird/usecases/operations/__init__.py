"""The control plane: every operation that the command line, the API and the console offer, in one table.

In: an actor and a request value. Out: an answer value. Must not know: HTTP, terminals, pages.
"""

from tailorbird.usecases.operations.operation import AnyOperation, Nothing, Operation, perform, perform_for_program
from tailorbird.usecases.operations.table import OPERATIONS

__all__ = ["OPERATIONS", "AnyOperation", "Nothing", "Operation", "perform", "perform_for_program"]
