"""Aliases that answer now, as one gateway sees them, and the traffic split between their releases."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import NotFound, TailorbirdError, Unavailable
from tailorbird.domain.evidence import ScopeRule
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec, Retrieval
from tailorbird.domain.value import Digest
from tailorbird.text.words import nearest


def choose_target(alias: Alias, key: str) -> AliasTarget:
    """Target for ``key``: sticky, in proportion to the weights, independent between aliases.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005): each target draws ``w /
    -ln(u)`` with ``u`` uniform in (0, 1) from SHA-256, and the highest draw wins with probability ``w / Σw``. The alias's salt makes its
    experiments independent of one another. Raising one weight moves keys to that target alone; taking a target away moves its own keys
    alone. So a rollout whose share grows keeps the users it has. Raises NotFound when no target has a weight above 0.
    """
    eligible = [target for target in alias.targets if target.weight > 0]
    if not eligible:
        raise withdrawn(alias)
    if len(eligible) == 1:
        return eligible[0]
    return max(eligible, key=lambda target: _draw(alias, target, key))


def withdrawn(alias: Alias) -> NotFound:
    """Error for a withdrawn alias."""
    return NotFound(
        f"the model {alias.path} was withdrawn",
        "ask its owner which model took its place; GET /v1/models lists those that answer",
        code="model_not_found",
    )


def experiment_unit(alias: Alias, key: str) -> str:
    """Pseudonym of ``key`` in the alias's experiment: the unit of randomisation."""
    return hashlib.sha256(f"unit\n{alias.path}\n{alias.salt}\n{key}".encode()).hexdigest()[:16]


def _draw(alias: Alias, target: AliasTarget, key: str) -> float:
    drawn = f"{alias.path}\n{alias.salt}\n{target.release}\n{key}" if alias.salt else f"{alias.path}\n{target.release}\n{key}"
    digest = hashlib.sha256(drawn.encode()).digest()
    # 52 bits and a half: exactly representable, never 0 and never 1.
    uniform = ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52
    return target.weight / -math.log(uniform)


#: A name that nobody knows is compared with so many at most: with a thousand that takes 9 ms, in which nobody is answered.
_COMPARED = 100
#: Requests of one tenant that wait for names to be loaded, at most: they hold connections.
_HELD_EACH = 64
_ARM_NAMES = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class TrafficArm:
    """Release that can answer: ``name`` is its letter among the alias's targets; task and prompt are the release's own.

    An answer whose probability is below ``refer_below``, or in which ``refer_pattern`` occurs, is for a person to look at; so is a request
    that ``scope`` refuses. ``hosted``: an
    endpoint answers; where it does not, ``fallback`` does, the release before. ``path``: the name that it answers for.
    """

    name: str
    release: Digest
    task: TaskKind
    prompt: PromptSpec
    retrieval: Retrieval | None = None
    refer_below: float | None = None
    refer_pattern: str | None = None
    hosted: HostedModel | None = None
    scope: ScopeRule | None = None
    fallback: TrafficArm | None = None
    path: str = ""


def arm_name(position: int) -> str:
    """``a`` for the first target of an alias, ``b`` for the second; numbers after ``z``."""
    return _ARM_NAMES[position] if position < len(_ARM_NAMES) else str(position + 1)


@dataclass(frozen=True)
class AliasRoute:
    """Alias that answers. ``alias`` holds only the targets that are loaded; ``arms`` has one entry for each.

    ``mirror`` is asked the same, and its answers are given to nobody.
    """

    alias: Alias
    arms: dict[Digest, TrafficArm]
    mirror: TrafficArm | None = None

    def arm_for(self, key: str) -> TrafficArm:
        """Arm that answers ``key`` (see ``choose_target``)."""
        return self.arms[choose_target(self.alias, key).release]

    def unit(self, key: str | None) -> str:
        """Name of ``key`` in request rows; empty without a key."""
        return experiment_unit(self.alias, key) if key else ""


class AliasRoutes:
    """Routing table. An alias is live, waiting (known, its release not yet loaded), withdrawn, or unknown. ``hurry`` is told of names that
    somebody waits for."""

    def __init__(self, hurry: Callable[[str], None] = lambda _: None) -> None:
        self._hurry = hurry
        self._read = False
        self._live: dict[str, AliasRoute] = {}
        self._withdrawn: dict[str, Alias] = {}
        self._waiting: dict[str, TailorbirdError | None] = {}
        self._loading: set[str] = set()
        self._news: dict[str, asyncio.Event] = {}
        self._held = Counter[str]()
        self._in_use: Counter[Digest] = Counter()

    def is_loading(self, tenant: str, model: str) -> bool:
        """True for a name of ``tenant`` that answers nobody yet, and whose release the engine is loading or loads next, also once it has
        started; and for any before the record was read."""
        return model.startswith(f"{tenant}/") and self._may_come(model)

    async def until_loaded(self, path: str, seconds: float) -> None:
        """Returns when the name is no longer being loaded, however that ended, or after ``seconds``; at once where many of its tenant
        wait already."""
        tenant = path.partition("/")[0]
        if not self._may_come(path) or self._held[tenant] >= _HELD_EACH:
            return
        self._held[tenant] += 1
        self._hurry(path)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.setdefault(path, asyncio.Event()).wait(), seconds)
        finally:
            self._held[tenant] -= 1

    def _may_come(self, path: str) -> bool:
        return path in self._loading or not self._read

    def resolve(self, tenant: str, model: str) -> AliasRoute:
        """The route of ``model`` for a caller of ``tenant``.

        Raises NotFound for an unknown name, another tenant's name (the two cannot be told apart) and a withdrawn name; Unavailable for
        a name whose release is not loaded yet, and for any before the record was read: it may be one of those that are there.
        """
        own = model.startswith(f"{tenant}/")
        route = self._live.get(model) if own else None
        if route is not None:
            return route
        if own and model in self._withdrawn:
            raise withdrawn(self._withdrawn[model])
        if own and (model in self._waiting or not self._read):
            raise _not_yet(model[:128], self._waiting.get(model))
        raise self._unknown(tenant, model)

    def of(self, tenant: str) -> tuple[AliasRoute, ...]:
        """The live routes of a tenant, by name."""
        return tuple(route for path, route in sorted(self._live.items()) if route.alias.tenant == tenant)

    def live(self, path: str) -> AliasRoute | None:
        """The live route of ``tenant/name``, if there is one."""
        return self._live.get(path)

    def go_live(self, route: AliasRoute) -> None:
        """Routes new requests to ``route``; admitted requests end where they began."""
        path = route.alias.path
        self._live[path] = route
        self._withdrawn.pop(path, None)
        self._waiting.pop(path, None)
        self._tell(path)

    def withdraw(self, alias: Alias) -> None:
        """Refuses further requests for the alias."""
        self._live.pop(alias.path, None)
        self._waiting.pop(alias.path, None)
        self._withdrawn[alias.path] = alias
        self._tell(alias.path)

    def wait(self, path: str, failure: TailorbirdError | None, *, loading: bool = False) -> None:
        """Marks the alias as known but not loaded; ``failure`` says why, where loading failed; ``loading``: it is under way."""
        self._waiting[path] = failure
        if loading:
            self._loading.add(path)
        else:
            self._tell(path)

    def keep_only(self, paths: set[str]) -> None:
        """Removes every alias that is not in ``paths`` (a tenant was removed): those of the record, which has been read by now."""
        self._read = True
        self._live = {path: route for path, route in self._live.items() if path in paths}
        self._withdrawn = {path: alias for path, alias in self._withdrawn.items() if path in paths}
        self._waiting = {path: failure for path, failure in self._waiting.items() if path in paths}
        for path in (self._loading | self._news.keys()) - paths:
            self._tell(path)

    def _tell(self, path: str) -> None:
        """The name is not being loaded: whoever waits for it looks again."""
        self._loading.discard(path)
        if (news := self._news.pop(path, None)) is not None:
            news.set()

    @contextmanager
    def using(self, release: Digest) -> Iterator[None]:
        """Counts a request that ``release`` answers, so that it stays loaded until the request ends."""
        self._in_use[release] += 1
        try:
            yield
        finally:
            self._in_use[release] -= 1
            if not self._in_use[release]:
                del self._in_use[release]

    @property
    def in_use(self) -> frozenset[Digest]:
        """Releases that are answering a request now."""
        return frozenset(self._in_use)

    @property
    def live_count(self) -> int:
        """Number of live aliases."""
        return len(self._live)

    def _unknown(self, tenant: str, model: str) -> NotFound:
        known = [path for path in self._live if path.startswith(f"{tenant}/")]
        near = nearest(model, sorted(known)) if len(known) <= _COMPARED else None
        hint = f"did you mean {near}?" if near else "GET /v1/models lists the models of this key"
        return NotFound(f"there is no model {model[:128]!r}", hint, code="model_not_found")


def _not_yet(path: str, failure: TailorbirdError | None) -> Unavailable:
    if failure is None:
        return Unavailable(f"the model {path} is being loaded", "try again in a few seconds", code="model_loading")
    return Unavailable(
        f"the model {path} could not be loaded ({failure.error_code})",
        "the operator of this server finds the reason in its log; a new attempt is made by itself",
        code="model_not_loaded",
    )
