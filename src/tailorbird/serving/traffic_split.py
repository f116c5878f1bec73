"""Which of an alias's releases answers a request."""

from __future__ import annotations

import hashlib
import math

from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.errors import NotFound


def choose(alias: Alias, key: str) -> AliasTarget:
    """The target for ``key``: sticky, in proportion to the weights, independent between aliases.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005): each target draws ``w /
    -ln(u)`` with ``u`` uniform in (0, 1) from SHA-256, and the highest draw wins with probability ``w / Σw``. The alias's salt makes its
    experiments independent of one another. Raising one weight moves keys to that target alone; taking a target away moves its own keys
    alone. So a canary that grows keeps the users it has. Raises NotFound when no target has a weight above 0.
    """
    eligible = [target for target in alias.targets if target.weight > 0]
    if not eligible:
        raise withdrawn(alias)
    if len(eligible) == 1:
        return eligible[0]
    return max(eligible, key=lambda target: _draw(alias, target, key))


def withdrawn(alias: Alias) -> NotFound:
    """The refusal of a name that once answered."""
    return NotFound(
        f"the model {alias.path} was withdrawn",
        "ask its owner which model took its place; GET /v1/models lists those that answer",
        code="model_not_found",
    )


def unit_of(alias: Alias, key: str) -> str:
    """Names whom an arm was drawn for without naming them: what counts as one in the alias's experiment."""
    return hashlib.sha256(f"unit\n{alias.path}\n{alias.salt}\n{key}".encode()).hexdigest()[:16]


def _draw(alias: Alias, target: AliasTarget, key: str) -> float:
    drawn = f"{alias.path}\n{alias.salt}\n{target.release}\n{key}" if alias.salt else f"{alias.path}\n{target.release}\n{key}"
    digest = hashlib.sha256(drawn.encode()).digest()
    # 52 bits and a half: exactly representable, never 0 and never 1.
    uniform = ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52
    return target.weight / -math.log(uniform)
