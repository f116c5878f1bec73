"""Released ranking from which ``grounding`` takes its encoder: found by name, checked, and watched over until what uses it is staged."""

from __future__ import annotations

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.erasure import Certificate
from tailorbird.domain.errors import Conflict, Forbidden, ModelInvalid, NotFound
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import PlannedRanker
from tailorbird.domain.prompt import ReleaseName
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.objective import Fault, ObjectiveFile, raise_faults
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.release import rule_for
from tailorbird.usecases.anchored_rows import anchored_alias, anchored_erasures
from tailorbird.usecases.approvals import is_approved, read_release, verify_release
from tailorbird.usecases.dependencies import Dependencies

#: States in which a release has the approvals that its tier asks for, and nobody has taken it back.
_APPROVED = (ReleaseState.APPROVED, ReleaseState.STAGED, ReleaseState.ROLLING_OUT, ReleaseState.PRODUCTION)
_ENDED = (ReleaseState.RETIRED, ReleaseState.REJECTED)


def find_ranker(work: UnitOfWork, file: ObjectiveFile) -> Release | None:
    """The release that ``grounding.encoder`` names; None where none is named.

    Raises ObjectiveInvalid at its line: ``encoder_missing`` (no such release or alias, or one that answers nothing), ``encoder_kind`` (not
    of kind rank), ``encoder_retired``, ``encoder_not_approved``, ``encoder_erased`` (it learned from rows that were erased since). Raises
    Corrupt where it is not what was signed.
    """
    name = file.objective.grounding.encoder
    if name is None:
        return None
    try:
        found = _named(work, name)
        _demand_usable(work, found)
    except (NotFound, Conflict, Forbidden) as error:
        message = f"`grounding.encoder`: {error.message}"
        raise_faults(file.source, [Fault(file.line_of("grounding.encoder"), message, error.hint, error.error_code)])
    return found


def planned_ranker(work: UnitOfWork, found: Release) -> PlannedRanker:
    """What a plan holds of it."""
    content = found.content
    assert content.retrieval is not None
    bases = (work.records.get(BaseModelRef, digest) for digest in work.records.digests(BaseModelRef))
    base = next((base for base in bases if base.digest == content.base_model), None)
    by_vectors = "vectors" in content.retrieval.ways
    return PlannedRanker(
        objective=content.objective_name,
        release=found.digest,
        made=f"{content.rung.value} on {content.base_model_name}",
        ways=content.retrieval.ways,
        encoder=content.retrieval.encoder if by_vectors else None,
        tuned=content.retrieval.tuned,
        reranker=content.retrieval.reranker,
        depth=content.retrieval.depth,
        parameters=base.parameters if base else 0,
    )


def demand_one_width(deps: Dependencies, ranker: PlannedRanker) -> None:
    """Raises ModelInvalid (``encoder_width``) where what was tuned reads queries as vectors of another width than those of passages."""
    if ranker.encoder is None or ranker.tuned is None:
        return
    encoder, folder = deps.encoder(), deps.artifacts.get_tree(ranker.encoder)
    plain, tuned = (encoder.embed(folder, ["width"], tree).shape[1] for tree in (None, deps.artifacts.get_tree(ranker.tuned)))
    if plain != tuned:
        raise ModelInvalid(
            f"the encoder of release {short(ranker.release)} reads passages as vectors of {plain} numbers and queries as {tuned}",
            f"adapt {ranker.objective} again, and name the release that comes of it under `grounding.encoder`",
            code="encoder_width",
        )


def demand_ranker(work: UnitOfWork, release: Release) -> None:
    """Raises Conflict (``encoder_retired``) where the release whose encoder finds the passages of ``release`` was taken back since.

    It is asked before ``release`` is staged, promoted or rolled out. One that answers already goes on: it holds the encoder by digest, and
    was measured with it.
    """
    ranker = ranker_behind(work, release)
    if ranker is not None and ranker.state in _ENDED:
        raise Conflict(
            f"release {short(release.digest)} finds its passages by the encoder of {short(ranker.digest)}, which is {ranker.state.value}",
            f"adapt {release.content.objective_name} again: `grounding.encoder` then stands for a release that nobody took back",
            code="encoder_retired",
        )


def ranker_behind(work: UnitOfWork, release: Release) -> Release | None:
    """The release whose encoder finds the passages of ``release``; None where it has none."""
    retrieval = release.content.retrieval
    return work.releases.get(retrieval.release) if retrieval and retrieval.release else None


def _named(work: UnitOfWork, text: str) -> Release:
    named = ReleaseName.of(text)
    assert named is not None
    if named.digest:
        return _found(work, named.digest, text)
    alias = anchored_alias(work, named.name)
    if alias is None or not alias.targets:
        raise NotFound(
            f"{text} answers nothing", "see tailorbird release list; promote a release of kind rank first", code="encoder_missing"
        )
    targets = [work.releases.get(target.release) for target in alias.targets]
    return next((one for one in targets if one.state is ReleaseState.PRODUCTION), targets[0])


def _found(work: UnitOfWork, digest: str, text: str) -> Release:
    try:
        return work.releases.get(digest)
    except NotFound as error:
        raise NotFound(error.message, f"see tailorbird release list for what {text} may be", code="encoder_missing") from error


def _demand_usable(work: UnitOfWork, found: Release) -> None:
    named = f"release {short(found.digest)}"
    if found.content.task is not TaskKind.RANK or found.content.retrieval is None:
        what = f"{named} is of kind {found.content.task.value}, and finds no documents"
        raise Conflict(what, "name a release of kind rank: tailorbird release list", code="encoder_kind")
    if found.state in _ENDED:
        raise Conflict(
            f"{named} is {found.state.value}", "name one that was not taken back: tailorbird release list", code="encoder_retired"
        )
    _, objective, people = read_release(work, found.digest)
    verify_release(found, people)
    if found.state not in _APPROVED or not is_approved(found, rule_for(objective), people):
        hint = f"ask an approver to run: tailorbird release approve {short(found.digest)}"
        raise Forbidden(f"{named} lacks valid approvals", hint, code="encoder_not_approved")
    _demand_not_erased(work, found)


def _demand_not_erased(work: UnitOfWork, found: Release) -> None:
    """What learned from rows of somebody who was erased since is to be retrained, not carried on into other releases."""
    certificates = [work.records.get(Certificate, one.certificate) for one in anchored_erasures(work) if one.certificate]
    reached = {part for certificate in certificates for part in certificate.reach.adapters}
    retrieval = found.content.retrieval
    if retrieval and reached & {retrieval.tuned, retrieval.reranker}:
        what = f"the encoder of release {short(found.digest)} learned from rows that were erased since"
        raise Conflict(what, f"adapt {found.content.objective_name} again, and name the release that comes of it", code="encoder_erased")
