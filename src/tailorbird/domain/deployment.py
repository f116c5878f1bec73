"""Servables, aliases with weighted releases, and the row that every request leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import NotFound
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Retrieval
from tailorbird.domain.value import Digest, Name, Value

#: What an alias is for: users ask the one in production; the one in staging is asked with the scope ``staging`` alone.
Stage = Literal["production", "staging"]
#: How the path of an alias in staging ends. No ``Name`` holds an ``@``: no name of an objective is one.
_IN_STAGING = "@staging"
#: Names that an error lists.
_MOST_NAMED = 10


class AliasTarget(Value):
    """A release behind an alias and its share of the traffic (weights are relative)."""

    release: Digest
    weight: int = 100


class Alias(Value):
    """A public name ``tenant/name``, or its rehearsal in staging. ``version`` grows by one at each move; no targets means withdrawn.

    ``salt`` makes the draw of an experiment independent of earlier ones; ``mirror`` is a release that is asked the same, and whose answers
    nobody is given.
    """

    tenant: Name
    name: Name
    stage: Stage = "production"
    targets: tuple[AliasTarget, ...]
    previous: tuple[AliasTarget, ...] = ()
    version: int = 1
    moved_at: datetime
    moved_by: Name
    salt: str = ""
    mirror: Digest | None = None

    @property
    def path(self) -> str:
        """``tenant/name``, the model name that callers use; ``tenant/name@staging`` of one in staging."""
        return alias_path(self.tenant, self.name, self.stage)

    @property
    def asked(self) -> tuple[Digest, ...]:
        """The releases that its requests are put to, the mirror last."""
        return (*(target.release for target in self.targets), *((self.mirror,) if self.mirror else ()))


def alias_path(tenant: str, name: str, stage: str) -> str:
    """The path of an alias, by which it is asked."""
    return f"{tenant}/{name}{_IN_STAGING if stage == 'staging' else ''}"


def name_and_stage(path: str) -> tuple[str, Stage]:
    """The name and the stage of the alias that a path means."""
    name = path.rpartition("/")[2]
    return (name.removesuffix(_IN_STAGING), "staging") if name.endswith(_IN_STAGING) else (name, "production")


class LocalRetrieval(Value):
    """A retrieval whose parts lie in local folders that were verified."""

    spec: Retrieval
    index: str
    encoder: str | None = None
    tuned: str | None = None
    reranker: str | None = None


class Servable(Value):
    """A model that an engine can load: local folders that were verified, and the prompt to put around a text.

    ``id`` is the digest of the release or candidate; at most one of ``adapter`` and ``weights`` is set. A ``floor`` answers without a
    language model, and a ``hosted`` one by the model of an endpoint: their ``base`` is empty. ``encoder`` is what the adapter in the
    floor's folder changes.
    """

    id: Digest
    tenant: Name
    task: TaskKind
    base: str
    adapter: str | None
    weights: str | None
    prompt: PromptSpec
    retrieval: LocalRetrieval | None = None
    floor: str | None = None
    hosted: HostedModel | None = None
    encoder: str | None = None


class RequestRow(Value):
    """What stays of a request. Its text is not here. ``outcome`` is ``ok``, ``error``, ``refused``, ``aborted`` or ``open``: a stream that
    has not ended, or whose gateway died in it, with the most that it may have used and cost.

    ``characters`` is the length of the user's text and ``sketch`` its content reduced to a few numbers (``monitoring/sketch.py``), for
    drift; ``confidence`` the probability of the answer, where there is one. ``cost`` is in the currency of the settings' prices.

    ``version`` is that of the alias by which the arm was drawn and ``unit`` whom it was drawn for (a salted hash; empty where nobody
    was named; ``FORGOTTEN`` where they were erased). ``malformed`` is an answer without the form
    that was asked for, ``referred`` one of which its release is not sure enough or which hands over to people, ``agrees`` whether a
    mirrored answer was the one given. ``endpoint`` is that of the
    hosted model which was asked (empty: none), also where it did not answer, and ``paid`` what that cost, or may have cost: a part of
    ``cost``. ``out_of_scope`` is a request that none of the labels fits: it has no prediction.
    """

    id: str
    tenant: Name
    key: str
    alias: str
    release: Digest | None
    arm: str
    route: str
    status: int
    outcome: Literal["ok", "error", "refused", "aborted", "open"]
    error: str | None
    prediction: str | None
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float
    at: datetime
    characters: int = 0
    sketch: str = ""
    confidence: float | None = None
    cost: float = 0.0
    version: int = 0
    unit: str = ""
    malformed: bool = False
    referred: bool = False
    out_of_scope: bool = False
    agrees: bool | None = None
    endpoint: str = ""
    paid: float = 0.0


#: The outcome of the row of a stream that has not ended.
OPEN_ROW: Literal["open"] = "open"

#: The arm of a mirrored request: nobody was given the answer, and nobody pays for it.
SHADOW = "shadow"


def shadow_id(request: str) -> str:
    """The id of the row of the mirrored request: the two make a pair."""
    return f"{request}{SHADOW_ENDING}"


#: How it ends.
SHADOW_ENDING = "-shadow"

#: What stands for the unit in a row whose person was forgotten: nobody knows any more which of them are one user's.
FORGOTTEN = "forgotten"

#: The arm of a request that the release before answered, because the hosted model of the release that was drawn did not.
FALLBACK = "fallback"


class Traffic(Value):
    """What one release answered within a window. Latencies in milliseconds; ``cost`` in the currency of the settings' prices, without what
    endpoints were paid for requests that the release answered in their place, ``stood_in`` of ``requests``."""

    release: Digest | None
    alias: str
    requests: int
    ok: int
    errors: int
    refused: int
    aborted: int
    stood_in: int = 0
    latency_p50_ms: float
    latency_p95_ms: float
    prompt_tokens: int
    completion_tokens: int
    cost: float
    first: datetime
    last: datetime


def alias_missing(tenant: str, name: str, known: Iterable[str]) -> NotFound:
    """The error for a name of the tenant that was never given to a release; its hint lists those that were."""
    names = sorted(known)
    listed = ", ".join(f"{tenant}/{one}" for one in names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED:,} more" if names[_MOST_NAMED:] else ""
    )
    hint = f"names that releases were promoted under: {listed}" if names else "nothing was promoted yet: tailorbird release list"
    return NotFound(f"no alias {tenant}/{name}", hint, code="alias_missing")


#: Tokens around each message that are not of its text.
_AROUND = 8
#: Bytes of text in one token, at most.
_LONGEST_TOKEN = 128
#: Tokens beyond the texts that a server may count: of a prompt of its own, and of reasoning that it does not show.
HIDDEN_PROMPT, HIDDEN_REASONING = 16_384, 131_072


class HostedTokens(NamedTuple):
    """Tokens read and written; ``estimated`` where the server did not say, or said what cannot be."""

    prompt: int
    completion: int
    estimated: bool = False


def size_of(text: str) -> int:
    """Bytes of a text, which may hold half a character: tokens of it, at most."""
    return len(text.encode("utf-8", "surrogatepass"))


def most_read(prompt: Sequence[Message]) -> int:
    """Tokens of a prompt, at most."""
    return sum(size_of(message.content) + _AROUND for message in prompt)


def believable_usage(told: Mapping[str, Any], prompt: Sequence[Message], written: int, most: int) -> HostedTokens:
    """What the server tells of a prompt and of an answer of ``written`` bytes, for which ``most`` tokens were asked.

    Of a count that is missing, negative, too small for its text or beyond all reason, the bytes stand in its place.
    """
    read = most_read(prompt)
    reads = _believable(told.get("prompt_tokens"), read - _AROUND * len(prompt), read + HIDDEN_PROMPT)
    writes = _believable(told.get("completion_tokens"), written, max(written, most) + HIDDEN_REASONING)
    return HostedTokens(read if reads is None else reads, written if writes is None else writes, estimated=None in (reads, writes))


def _believable(given: Any, size: int, most: int) -> int | None:
    """A count of tokens for a text of ``size`` bytes; None for what is none."""
    if not isinstance(given, int) or isinstance(given, bool):
        return None
    return given if size <= given * _LONGEST_TOKEN and 0 <= given <= most else None
