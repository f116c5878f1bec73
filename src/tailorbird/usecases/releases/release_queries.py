"""Releases and public names: listed, and shown."""

from __future__ import annotations

from tailorbird.auth import Action
from tailorbird.domain.deployment import Alias
from tailorbird.domain.release import Release
from tailorbird.domain.value import Value
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.parameters import PageSize, ReleaseDigest, Skip
from tailorbird.usecases.registry import usecase


class ReleaseList(Value):
    """Some of the tenant's releases, newest first, and how many there are."""

    releases: tuple[Release, ...]
    total: int


class CardText(Value):
    """A model card, in Markdown with YAML front matter."""

    markdown: str


class AliasList(Value):
    """The tenant's public names, and where they point."""

    aliases: tuple[Alias, ...]


@usecase("release.list", "GET", "/api/releases", Action.SHOW_RELEASE)
def list_releases(deps: Dependencies, actor: Actor, limit: PageSize = 50, skip: Skip = 0) -> ReleaseList:
    """List releases, newest first."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return ReleaseList(releases=work.releases.latest(limit, skip), total=work.releases.count())


@usecase("release.show", "GET", "/api/releases/{digest}", Action.SHOW_RELEASE)
def show_release(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> Release:
    """Show a release.

    Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return work.releases.get(digest)


@usecase("release.card", "GET", "/api/releases/{digest}/card", Action.SHOW_RELEASE)
def show_card(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> CardText:
    """Read its model card.

    Raises NotFound.
    """
    found = show_release(deps, actor, digest)
    return CardText(markdown=deps.artifacts.get(found.dossier.card).decode())


@usecase("alias.list", "GET", "/api/aliases", Action.SHOW_RELEASE)
def list_aliases(deps: Dependencies, actor: Actor) -> AliasList:
    """List public names."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return AliasList(aliases=work.aliases.all())
