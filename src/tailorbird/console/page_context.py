"""A call at the console: what was asked, by whom, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from tailorbird.auth import ROLES_FOR, Action
from tailorbird.console import rendering
from tailorbird.console.forms import Fields, value_of
from tailorbird.domain.value import Value
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.registry import UseCase, perform, perform_request
from tailorbird.usecases.sessions import LoginEntry

P = ParamSpec("P")
A = TypeVar("A", bound=Value)


@dataclass(frozen=True)
class AnonymousContext:
    """A call by somebody who has not shown who they are. ``form`` is what was posted, empty for GET."""

    entrance: LoginEntry
    request: Request
    form: Fields

    @property
    def deps(self) -> Dependencies:
        """The opened ports."""
        return self.entrance.deps

    @property
    def query(self) -> Fields:
        """The fields of the address."""
        return self.request.query_params

    def named(self, name: str) -> str:
        """A piece of the address that the route names."""
        return str(self.request.path_params[name])

    def page(self, template: str, status: int = 200, **values: object) -> Response:
        """The page for somebody unknown."""
        return rendering.page(template, {"actor": None, "path": self.request.url.path} | values, status)


@dataclass(frozen=True)
class PageContext(AnonymousContext):
    """A call by somebody known."""

    actor: Actor

    def ask(self, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The answer of ``use_case``; roles and tenant are checked there. Raises Forbidden, InvalidInput, and what it raises."""
        return perform(self.deps, self.actor, use_case, *args, **kwargs)

    def ask_form(self, use_case: UseCase[P, A], /, **fields: object) -> A:
        """The same where fields are text, as a form gives them."""
        return perform_request(self.deps, self.actor, use_case, value_of(use_case.request, fields))

    def may(self, action: Action) -> bool:
        """True when a role of the actor's allows ``action``: only to decide what a page offers."""
        return bool(self.actor.identity.roles & ROLES_FOR[action])

    def page(self, template: str, status: int = 200, **values: object) -> Response:
        """The page for the actor."""
        return super().page(template, status, **({"actor": self.actor} | values))


def see_other(path: str) -> Response:
    """Sends the browser on to look at ``path``."""
    return RedirectResponse(path, 303)


#: How a page answers whoever calls, and how one that needs a session does.
GuestView = Callable[[AnonymousContext], Response]
View = Callable[[PageContext], Response]
