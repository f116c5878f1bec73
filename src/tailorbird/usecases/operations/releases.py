"""Operations on releases and on the aliases that point to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.deployment import Alias
from tailorbird.domain.identity import Signature
from tailorbird.domain.release import Release, Statement
from tailorbird.domain.value import Value
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.operation import Nothing, Operation
from tailorbird.usecases.releases import live_kpis, promotion

DigestStart = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-f]{1,64}$", description="Digest of the release, or how it begins.")]
Reason = Annotated[str, Field(max_length=2000, description="Why, in a sentence.")]


class ReleasePageRequest(Value):
    """Which part of the list is wanted: ``limit`` releases after leaving out ``skip``, newest first."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    skip: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class ReleaseList(Value):
    """Some of the tenant's releases, newest first, and how many there are."""

    releases: tuple[Release, ...]
    total: int


class OneRelease(Value):
    """Names a release."""

    digest: DigestStart


class CardText(Value):
    """A model card, in Markdown with YAML front matter."""

    markdown: str


class Intent(Value):
    """What somebody means to decide, before it is signed."""

    digest: DigestStart
    decision: Literal["approve", "reject"]
    reason: Reason = ""


class SignedDecision(Value):
    """A statement as ``release.statement`` gave it, and the signature over its digest for the purpose ``decision``."""

    digest: DigestStart
    statement: Statement
    signature: Signature


class AliasList(Value):
    """The tenant's public names, and where they point."""

    aliases: tuple[Alias, ...]


class TakeBack(Value):
    """Names an alias whose present release is to leave production."""

    alias: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    reason: Reason = ""


def _list(deps: Dependencies, actor: Actor, asked: ReleasePageRequest) -> ReleaseList:
    with deps.ledger.work(actor.tenant, write=False) as work:
        return ReleaseList(releases=work.releases.latest(asked.limit, asked.skip), total=work.releases.count())


def _show(deps: Dependencies, actor: Actor, asked: OneRelease) -> Release:
    return promotion.find_release(deps, actor.tenant, asked.digest)


def _card(deps: Dependencies, actor: Actor, asked: OneRelease) -> CardText:
    found = promotion.find_release(deps, actor.tenant, asked.digest)
    return CardText(markdown=deps.artifacts.get(found.dossier.card).decode())


def _live(deps: Dependencies, actor: Actor, asked: OneRelease) -> live_kpis.LiveReport:
    return live_kpis.live_report(deps, actor.tenant, asked.digest)


def _statement(deps: Dependencies, actor: Actor, asked: Intent) -> Statement:
    return promotion.statement(deps, actor, asked.digest, asked.decision, asked.reason)


def _decide(deps: Dependencies, actor: Actor, asked: SignedDecision) -> Release:
    promotion.require_same(asked.digest, asked.statement.release)
    return promotion.decide(deps, actor, asked.statement, asked.signature)


def _stage(deps: Dependencies, actor: Actor, asked: OneRelease) -> Release:
    return promotion.stage(deps, actor, asked.digest)


def _promote(deps: Dependencies, actor: Actor, asked: OneRelease) -> promotion.AliasMove:
    return promotion.promote(deps, actor, asked.digest)


def _aliases(deps: Dependencies, actor: Actor, _asked: Nothing) -> AliasList:
    with deps.ledger.work(actor.tenant, write=False) as work:
        return AliasList(aliases=work.aliases.all())


def _roll_back(deps: Dependencies, actor: Actor, asked: TakeBack) -> promotion.AliasMove:
    return promotion.roll_back(deps, actor, asked.alias, asked.reason)


LIST = Operation(
    "release.list", "GET", "/api/releases", Action.SHOW_RELEASE, ReleasePageRequest, ReleaseList, _list, "List releases, newest first."
)
SHOW = Operation("release.show", "GET", "/api/releases/{digest}", Action.SHOW_RELEASE, OneRelease, Release, _show, "Show a release.")
CARD = Operation(
    "release.card", "GET", "/api/releases/{digest}/card", Action.SHOW_RELEASE, OneRelease, CardText, _card, "Read its model card."
)
LIVE = Operation(
    "release.live",
    "GET",
    "/api/releases/{digest}/live",
    Action.SHOW_RELEASE,
    OneRelease,
    live_kpis.LiveReport,
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
    "release.decide",
    "POST",
    "/api/releases/{digest}/decisions",
    Action.APPROVE,
    SignedDecision,
    Release,
    _decide,
    "File a signed decision.",
)
STAGE = Operation("release.stage", "POST", "/api/releases/{digest}/stage", Action.STAGE, OneRelease, Release, _stage, "Move it to staging.")
PROMOTE = Operation(
    "release.promote",
    "POST",
    "/api/releases/{digest}/promote",
    Action.PROMOTE,
    OneRelease,
    promotion.AliasMove,
    _promote,
    "Put a staged release before users.",
)
ALIASES = Operation("alias.list", "GET", "/api/aliases", Action.SHOW_RELEASE, Nothing, AliasList, _aliases, "List public names.")
ROLL_BACK = Operation(
    "alias.rollback",
    "POST",
    "/api/aliases/{alias}/rollback",
    Action.ROLLBACK,
    TakeBack,
    promotion.AliasMove,
    _roll_back,
    "Take the present release of a name back.",
)
