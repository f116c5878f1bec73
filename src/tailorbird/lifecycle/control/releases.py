"""Operations on releases and on the aliases that point to them.

In: what a caller asks; a decision comes with the signature of who decides. Out: releases, aliases. Must not know: who calls from where.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tailorbird.access import Action
from tailorbird.domain.deployment import Alias
from tailorbird.domain.identity import Signature
from tailorbird.domain.release import Release, Statement
from tailorbird.domain.value import Value
from tailorbird.lifecycle.control.operation import Nothing, Operation
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.lifecycle.releasing import promote
from tailorbird.lifecycle.watching import live

DigestStart = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{1,64}$", description="Digest of the release, or how it begins.")]
Reason = Annotated[str, Field(max_length=2000, description="Why, in a sentence.")]


class Page(Value):
    """Which part of the list is wanted: ``limit`` releases after leaving out ``skip``, newest first."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    skip: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class Releases(Value):
    """Some of the tenant's releases, newest first, and how many there are."""

    releases: tuple[Release, ...]
    total: int


class OneRelease(Value):
    """Names a release."""

    digest: DigestStart


class Card(Value):
    """A model card, in Markdown with YAML front matter."""

    markdown: str


class Intent(Value):
    """What somebody means to decide, before it is signed."""

    digest: DigestStart
    decision: Literal["approve", "reject"]
    reason: Reason = ""


class Decided(Value):
    """A statement as ``release.statement`` gave it, and the signature over its digest for the purpose ``decision``."""

    digest: DigestStart
    statement: Statement
    signature: Signature


class Aliases(Value):
    """The tenant's public names, and where they point."""

    aliases: tuple[Alias, ...]


class TakeBack(Value):
    """Names an alias whose present release is to leave production."""

    alias: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    reason: Reason = ""


def _list(parts: Parts, actor: Actor, asked: Page) -> Releases:
    with parts.ledger.work(actor.tenant, write=False) as work:
        return Releases(releases=work.releases.latest(asked.limit, asked.skip), total=work.releases.count())


def _show(parts: Parts, actor: Actor, asked: OneRelease) -> Release:
    return promote.find_release(parts, actor.tenant, asked.digest)


def _card(parts: Parts, actor: Actor, asked: OneRelease) -> Card:
    found = promote.find_release(parts, actor.tenant, asked.digest)
    return Card(markdown=parts.artifacts.get(found.dossier.card).decode())


def _live(parts: Parts, actor: Actor, asked: OneRelease) -> live.LiveReport:
    return live.live_report(parts, actor.tenant, asked.digest)


def _statement(parts: Parts, actor: Actor, asked: Intent) -> Statement:
    return promote.statement(parts, actor, asked.digest, asked.decision, asked.reason)


def _decide(parts: Parts, actor: Actor, asked: Decided) -> Release:
    promote.require_same(asked.digest, asked.statement.release)
    return promote.decide(parts, actor, asked.statement, asked.signature)


def _stage(parts: Parts, actor: Actor, asked: OneRelease) -> Release:
    return promote.stage(parts, actor, asked.digest)


def _promote(parts: Parts, actor: Actor, asked: OneRelease) -> promote.Moved:
    return promote.promote(parts, actor, asked.digest)


def _aliases(parts: Parts, actor: Actor, _asked: Nothing) -> Aliases:
    with parts.ledger.work(actor.tenant, write=False) as work:
        return Aliases(aliases=work.aliases.all())


def _roll_back(parts: Parts, actor: Actor, asked: TakeBack) -> promote.Moved:
    return promote.roll_back(parts, actor, asked.alias, asked.reason)


LIST = Operation("release.list", "GET", "/api/releases", Action.SHOW_RELEASE, Page, Releases, _list, "List releases, newest first.")
SHOW = Operation("release.show", "GET", "/api/releases/{digest}", Action.SHOW_RELEASE, OneRelease, Release, _show, "Show a release.")
CARD = Operation("release.card", "GET", "/api/releases/{digest}/card", Action.SHOW_RELEASE, OneRelease, Card, _card, "Read its model card.")
LIVE = Operation(
    "release.live",
    "GET",
    "/api/releases/{digest}/live",
    Action.SHOW_RELEASE,
    OneRelease,
    live.LiveReport,
    _live,
    "Its live KPIs: what users said of its answers, held against the objective's targets.",
)
STATEMENT = Operation(
    "release.statement",
    "GET",
    "/api/releases/{digest}/statement",
    Action.APPROVE,
    Intent,
    Statement,
    _statement,
    "What to sign in order to approve or reject it.",
)
DECIDE = Operation(
    "release.decide", "POST", "/api/releases/{digest}/decisions", Action.APPROVE, Decided, Release, _decide, "File a signed decision."
)
STAGE = Operation("release.stage", "POST", "/api/releases/{digest}/stage", Action.STAGE, OneRelease, Release, _stage, "Move it to staging.")
PROMOTE = Operation(
    "release.promote",
    "POST",
    "/api/releases/{digest}/promote",
    Action.PROMOTE,
    OneRelease,
    promote.Moved,
    _promote,
    "Put a staged release before users.",
)
ALIASES = Operation("alias.list", "GET", "/api/aliases", Action.SHOW_RELEASE, Nothing, Aliases, _aliases, "List public names.")
ROLL_BACK = Operation(
    "alias.rollback",
    "POST",
    "/api/aliases/{alias}/rollback",
    Action.ROLLBACK,
    TakeBack,
    promote.Moved,
    _roll_back,
    "Take the present release of a name back.",
)
