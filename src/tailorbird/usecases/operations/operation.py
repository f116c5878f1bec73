"""What can be asked of the control plane: one operation, one line in the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from tailorbird.auth import Action
from tailorbird.domain.errors import Forbidden
from tailorbird.domain.identity import ApiKey, Identity, Scope, Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.dependencies import Actor, Dependencies

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)


class Nothing(Value):
    """A request without parameters."""


@dataclass(frozen=True)
class Operation(Generic[Q, A]):
    """One thing that can be asked. ``path`` names fields of ``asks`` in braces; the other fields come as query (GET) or body.

    ``action`` is the operation's line in ``access.ROLES_FOR``; the tenant is always the actor's own. A program may ask it with an API key
    that has ``scope``, where there is one.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    action: Action
    asks: type[Q]
    answers: type[A]
    do: Callable[[Dependencies, Actor, Q], A]
    summary: str
    scope: Scope | None = None


#: An operation of any types, for the table.
AnyOperation = Operation[Any, Any]


def perform_for_program(deps: Dependencies, key: ApiKey, operation: Operation[Q, A], request: Q) -> A:
    """Does ``operation`` for the program that holds ``key``. Raises Forbidden where the key has not its scope."""
    if operation.scope is None or operation.scope not in key.scopes:
        raise Forbidden(f"this key may not ask {operation.name}", "use a key with the scope for it, or a session", code="scope_missing")
    program = Identity(tenant=key.tenant, name=f"key-{key.id}", roles=frozenset(), public_key="", created_at=key.created_at)
    return operation.do(deps, Actor(program, _signs_nothing), request)


def _signs_nothing(purpose: str, _digest: Digest) -> Signature:
    raise Forbidden(f"a program signs nothing (for the purpose {purpose})", "let a person do it", code="key_elsewhere")


def perform(deps: Dependencies, actor: Actor, operation: Operation[Q, A], request: Q) -> A:
    """Does ``operation`` when the actor's roles allow it. Raises Forbidden, after logging the denial, and what the operation raises."""
    permit(deps, actor, operation.action, operation.name)
    return operation.do(deps, actor, request)
