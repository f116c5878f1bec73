"""Takes a release out of the house, as one model that other engines load."""

from __future__ import annotations

import shutil
from pathlib import Path

from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import canonical_json, plain_json, short
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.engine import LoadRequest
from tailorbird.ports.trainer import Example, Merged, MergeJob
from tailorbird.usecases.audit_events import Facts, permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.releases.load_verification import admit
from tailorbird.usecases.releases.release_queries import show_release

#: Texts that both models are asked: short and long, with and without an answer in them.
_PROBES = (
    "Where is my order? It was due on Monday.",
    "I want my money back.",
    "The quick brown fox jumps over the lazy dog, and nobody knows why it does so every single morning at half past seven.",
    "2 + 2 =",
    "Wie lange dauert die Lieferung?",
    "Please cancel my account; I was charged twice for the same month and your form does not accept my address.",
)
#: The file that says what the folder holds.
_MANIFEST = "tailorbird.json"


class ExportedRelease(Value):
    """A release outside the house: where, and how far it answers like the release. ``merged`` is None where weights were copied."""

    release: Digest
    folder: str
    files: tuple[str, ...]
    merged: Merged | None


def export_release(deps: Dependencies, actor: Actor, digest: str, target: Path, progress: Progress) -> ExportedRelease:
    """Writes an approved release to ``target``, all of it or nothing.

    Its signature, its approvals and every byte of its artifacts are checked first, as for production. Raises NotFound, Forbidden (role, not
    approved), Corrupt, InvalidInput (``export_nothing``, ``target_taken``, ``target_unwritable``) and what merging raises.
    """
    permit(deps, actor, Action.EXPORT, digest)
    deps = deps.for_tenant(actor.tenant)
    release = show_release(deps, actor, digest)
    servable = admit(deps, LoadRequest(tenant=actor.tenant, release=release.digest, purpose="production"))
    if servable.floor is not None:
        what = "a classical model" if release.content.rung is RungKind.FLOOR else "an encoder with a linear head"
        raise InvalidInput(
            f"release {short(release.digest)} is {what}: there is no language model to merge it into",
            f"serve it with tailorbird, or adapt with a ladder that does not list the {release.content.rung.value}",
            code="export_nothing",
        )
    if servable.adapter is None and servable.weights is None:
        raise InvalidInput(
            f"release {short(release.digest)} trained nothing: it is a prompt on {release.content.base_model_name}",
            "use the base model with the prompt that release show prints",
            code="export_nothing",
        )
    new = _claimed(target)
    try:
        merged = _write(deps, release, servable, new, progress)
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    exported = ExportedRelease(
        release=release.digest, folder=str(target), files=tuple(sorted(p.name for p in target.iterdir())), merged=merged
    )
    facts: Facts = {"files": len(exported.files), "merged": merged is not None, "mean_kl": merged.mean_kl if merged else 0.0}
    with deps.ledger.work(actor.tenant) as work:
        record(work, "release.exported", actor.name, release.digest, deps.clock.now(), facts)
    return exported


def _claimed(target: Path) -> Path:
    """A new folder beside ``target``, which must not be there yet."""
    if target.exists():
        raise InvalidInput(f"{target} is there already", "name a folder that does not exist", code="target_taken")
    new = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    except OSError as error:
        raise InvalidInput(
            f"{target.parent} cannot be written ({error.strerror})", "name a folder where you may write", code="target_unwritable"
        ) from error
    return new


def _write(deps: Dependencies, release: Release, servable: Servable, folder: Path, progress: Progress) -> Merged | None:
    merged = None
    if servable.weights is not None:
        progress.tell("copying the weights")
        shutil.copytree(servable.weights, folder, dirs_exist_ok=True)
    else:
        progress.tell("merging the adapter into its base, and comparing")
        merged = deps.trainer().merge(_merge_job(servable, folder))
    (folder / "README.md").write_bytes(deps.artifacts.get(release.dossier.card))
    facts = {"release": release.digest, "content": plain_json(release.content), "merged": plain_json(merged) if merged else None}
    (folder / _MANIFEST).write_bytes(canonical_json(facts) + b"\n")
    return merged


def _merge_job(servable: Servable, folder: Path) -> MergeJob:
    assert servable.adapter is not None
    answers = servable.prompt.answers or ("Yes.",)
    probes = tuple(Example(text=text, target=answers[place % len(answers)]) for place, text in enumerate(_PROBES))
    return MergeJob(base=Path(servable.base), adapter=Path(servable.adapter), target=folder, prompt=servable.prompt, probes=probes)
