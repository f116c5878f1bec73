"""What can be asked of the control plane: one operation, one line in the policy.

In: a request value and an actor. Out: an answer value. Must not know: HTTP, terminals; the command line and the API run the same
operations, here or over there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from tailorbird.access import Action
from tailorbird.domain.value import Value
from tailorbird.lifecycle.journal import permit
from tailorbird.lifecycle.parts import Actor, Parts

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)


class Nothing(Value):
    """A request without parameters."""


@dataclass(frozen=True)
class Operation(Generic[Q, A]):
    """One thing that can be asked. ``path`` names fields of ``asks`` in braces; the other fields come as query (GET) or body.

    ``action`` is the operation's line in ``access.ROLES_FOR``; the tenant is always the actor's own.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    action: Action
    asks: type[Q]
    answers: type[A]
    do: Callable[[Parts, Actor, Q], A]
    summary: str


#: An operation of any types, for the table.
AnyOperation = Operation[Any, Any]


def perform(parts: Parts, actor: Actor, operation: Operation[Q, A], request: Q) -> A:
    """Does ``operation`` when the actor's roles allow it. Raises Forbidden, after logging the denial, and what the operation raises."""
    permit(parts, actor, operation.action, operation.name)
    return operation.do(parts, actor, request)
