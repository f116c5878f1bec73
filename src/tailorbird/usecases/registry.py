"""Registry of use cases: each is declared on the function that does it, and command line, API and console ask by it alone. What is done on
this machine alone is declared and checked here, too."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, get_type_hints

from pydantic import Field, ValidationError, create_model

from tailorbird.auth import Action
from tailorbird.domain.errors import Forbidden, InvalidInput
from tailorbird.domain.identity import ApiKey, Identity, Scope, Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.dependencies import Actor, Dependencies

P = ParamSpec("P")
A = TypeVar("A", bound=Value)
Q = TypeVar("Q", bound=Value)
T = TypeVar("T")
Method = Literal["GET", "POST"]

_IN_PATH = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, eq=False)
class UseCase(Generic[P, A]):
    """A function ``(deps, actor, ...)`` that can be asked from outside, under ``noun.verb``.

    ``path`` names parameters in braces; the others come as query (GET) or body (POST). ``action`` is its line in ``auth.ROLES_FOR``; the
    tenant is always the actor's own. A program may ask with an API key that has ``scope``, where there is one. Called directly, it is the
    function, with the checks that it makes itself and no other: use cases call one another so, and processes those that check. Everybody
    else goes through ``perform``.
    """

    name: str
    method: Method
    path: str
    action: Action
    function: Callable[Concatenate[Dependencies, Actor, P], A]
    scope: Scope | None = None

    def __call__(self, deps: Dependencies, actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The function's own answer."""
        return self.function(deps.for_tenant(actor.tenant), actor, *args, **kwargs)

    @property
    def noun(self) -> str:
        """What it is about: the part of its name before the dot."""
        return self.name.partition(".")[0]

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def in_path(self) -> tuple[str, ...]:
        """The parameters that stand in the path."""
        return tuple(_IN_PATH.findall(self.path))

    @cached_property
    def request(self) -> type[Value]:
        """The model of what is asked: that of the only parameter where it is a model, else one with a field for each parameter."""
        whole = self._whole
        if whole is not None:
            return whole
        fields: dict[str, Any] = {
            name: (self._hints[name], ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in self._parameters.items()
        }
        title = "".join(part.capitalize() for part in re.split(r"[._]", self.name))
        return create_model(f"{title}Request", __base__=Value, __module__=self.function.__module__, **fields)

    @cached_property
    def response(self) -> type[A]:
        """The model of the answer."""
        answer: type[A] = self._hints["return"]
        return answer

    def request_of(self, *args: P.args, **kwargs: P.kwargs) -> Value:
        """What is asked by these arguments. Raises InvalidInput, naming the parameter to blame."""
        bound = self._signature.bind(*args, **kwargs).arguments
        if self._whole is not None:
            whole: Value = next(iter(bound.values()))
            return whole
        return self.read(bound)

    def read(self, fields: Mapping[str, object]) -> Value:
        """What is asked by named values, for instance of a form. Raises InvalidInput, naming the parameter to blame."""
        return validated(self.request, fields)

    def answer(self, deps: Dependencies, actor: Actor, request: Value) -> A:
        """The function's answer to ``request``, without a check of permission."""
        function: Callable[..., A] = self.function
        deps = deps.for_tenant(actor.tenant)
        if self._whole is not None:
            return function(deps, actor, request)
        return function(deps, actor, **{name: getattr(request, name) for name in self._parameters})

    @cached_property
    def _whole(self) -> type[Value] | None:
        """The model that is the only parameter, where that is so."""
        hints = [self._hints[name] for name in self._parameters]
        return hints[0] if len(hints) == 1 and isinstance(hints[0], type) and issubclass(hints[0], Value) else None

    @cached_property
    def _signature(self) -> inspect.Signature:
        """The function's own, without ``deps`` and ``actor``."""
        parameters = list(inspect.signature(self.function).parameters.values())[2:]
        return inspect.Signature(parameters)

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return self._signature.parameters

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)


#: A use case with any parameters and any answer.
AnyUseCase = UseCase[Any, Any]


class UseCaseRegistry:
    """Use cases by name. Two of one name, or two that answer the same call, are refused where they are declared."""

    def __init__(self) -> None:
        self._declared: dict[str, AnyUseCase] = {}

    def usecase(
        self, name: str, method: Method, path: str, action: Action, *, scope: Scope | None = None
    ) -> Callable[[Callable[Concatenate[Dependencies, Actor, P], A]], UseCase[P, A]]:
        """Declares the decorated function, whose docstring begins with a summary in one line. Raises ValueError."""

        def declare(function: Callable[Concatenate[Dependencies, Actor, P], A]) -> UseCase[P, A]:
            made = UseCase(name, method, path, action, function, scope)
            self._add(made)
            return made

        return declare

    def all(self) -> tuple[AnyUseCase, ...]:
        """Those declared so far, by noun and, within one, as they stand: by module and line."""
        return tuple(sorted(self._declared.values(), key=_order))

    def _add(self, made: AnyUseCase) -> None:
        if made.name in self._declared:
            raise ValueError(f"the use case {made.name} is declared twice")
        if not made.summary and sys.flags.optimize < 2:  # without docstrings nothing has one (PYTHONOPTIMIZE=2)
            raise ValueError(f"the use case {made.name} has no summary: begin its docstring with one")
        for other in self._declared.values():
            if other.method == made.method and _meet(other.path, made.path):
                raise ValueError(f"a call could mean both: {other.name} {other.path} and {made.name} {made.path}")
        self._declared[made.name] = made


def _meet(one: str, other: str) -> bool:
    """True when a path fits both patterns; then the order of routes would decide."""
    pairs = list(zip(one.split("/"), other.split("/"), strict=False))
    return one.count("/") == other.count("/") and all(a == b or a.startswith("{") or b.startswith("{") for a, b in pairs)


def _order(use_case: AnyUseCase) -> tuple[str, str, int]:
    code = inspect.unwrap(use_case.function).__code__
    return use_case.noun, use_case.function.__module__, code.co_firstlineno


_REGISTRY = UseCaseRegistry()
usecase = _REGISTRY.usecase


#: What is done on this machine alone and is asked by command line and Python API, by name.
LOCAL: dict[str, Action] = {}


def local(action: Action) -> Callable[[Callable[Concatenate[Dependencies, Actor, P], T]], Callable[Concatenate[Dependencies, Actor, P], T]]:
    """Declares the decorated function to be done on this machine alone, for whoever may take ``action``. Every call of it is checked, and
    raises Forbidden after logging the denial."""

    def declare(function: Callable[Concatenate[Dependencies, Actor, P], T]) -> Callable[Concatenate[Dependencies, Actor, P], T]:
        name = f"{function.__module__.removeprefix('tailorbird.usecases.')}.{function.__name__}"
        LOCAL[name] = action

        @wraps(function)
        def checked(deps: Dependencies, actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> T:
            first = args[0] if args else None
            asked = first.name if isinstance(first, Path) else first if isinstance(first, str) else ""
            permit(deps, actor, action, function.__name__, asked)
            return function(deps, actor, *args, **kwargs)

        return checked

    return declare


@cache
def use_cases() -> tuple[AnyUseCase, ...]:
    """All use cases. What is not declared in a module of ``tailorbird.usecases`` cannot be asked from outside."""
    package = importlib.import_module(__name__.rpartition(".")[0])
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return _REGISTRY.all()


def perform(deps: Dependencies, actor: Actor, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
    """The answer of ``use_case`` when the actor's roles allow it. Raises Forbidden, after logging the denial, InvalidInput (an argument),
    and what the use case raises."""
    return perform_request(deps, actor, use_case, use_case.request_of(*args, **kwargs))


def perform_request(deps: Dependencies, actor: Actor, use_case: UseCase[P, A], request: Value) -> A:
    """The same for a request that has been read already."""
    asked = "/".join(str(getattr(request, name)) for name in use_case.in_path if name in type(request).model_fields)
    permit(deps, actor, use_case.action, use_case.name, asked)
    return use_case.answer(deps, actor, request)


def perform_for_program(deps: Dependencies, key: ApiKey, use_case: UseCase[P, A], request: Value) -> A:
    """The answer to the program that holds ``key``. Raises Forbidden where the key has not the scope of the use case."""
    if use_case.scope is None or use_case.scope not in key.scopes:
        raise Forbidden(f"this key may not ask {use_case.name}", "use a key with the scope for it, or a session", code="scope_missing")
    program = Identity(tenant=key.tenant, name=f"key-{key.id}", roles=frozenset(), public_key="", created_at=key.created_at)
    return use_case.answer(deps, Actor(program, _signs_nothing), request)


def _signs_nothing(purpose: str, _digest: Digest) -> Signature:
    raise Forbidden(f"a program signs nothing (for the purpose {purpose})", "let a person do it")


def validated(kind: type[Q], fields: Mapping[str, object]) -> Q:
    """The value of ``kind`` with ``fields``. Raises InvalidInput, naming the field to blame and never what it holds."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "the request"
        raise InvalidInput(f"{name}: {first['msg']}", "correct it, and ask again", code="field_invalid", param=name) from None


RunId = Annotated[str, Field(min_length=1, max_length=64, description="Id of the run, or how it begins.")]
ReleaseDigest = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{1,64}$", description="Digest of the release, or how it begins.")]
SnapshotName = Annotated[
    str,
    Field(
        min_length=1, max_length=80, pattern=r"^[A-Za-z0-9._:-]+$", description="Digest, or how it begins; an objective; a run; a release."
    ),
]
Reason = Annotated[str, Field(max_length=2000, description="Why, in a sentence.")]
PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$", description="Raw Ed25519 public key in base64.")]
#: The length of a page of a list, and how many entries are left out before it.
PageSize = Annotated[int, Field(ge=1, le=1000)]
Skip = Annotated[int, Field(ge=0, le=10_000_000)]
