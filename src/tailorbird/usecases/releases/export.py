"""Takes a release out of the house, as one model, an adapter or its base, that other engines load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, NamedTuple

from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import canonical_json, plain_json, short
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.engine import LoadRequest
from tailorbird.ports.model_reader import GgufFile, GgufJob, GgufPrecision
from tailorbird.ports.trainer import Example, Merged, MergeJob
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.registry import local
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
#: Where the merged model lies while it is converted.
_WHOLE = ".whole"


#: What of a release is written: one model, its adapter alone, or the base model that adapters are for.
ExportPart = Literal["merged", "adapter", "base"]
ExportFormat = Literal["safetensors", "gguf"]


class ExportForm(Value):
    """In which form a release leaves: as safetensors in Hugging Face form, or as a GGUF file with weights in ``precision``."""

    format: ExportFormat = "safetensors"
    part: ExportPart = "merged"
    precision: GgufPrecision = "held"


class ExportedRelease(Value):
    """A release outside the house: where, and how far it answers like the release. ``merged`` is None where weights were copied, ``gguf``
    where safetensors were written."""

    release: Digest
    folder: str
    files: tuple[str, ...]
    merged: Merged | None
    gguf: GgufFile | None = None


@local(Action.EXPORT)
def export_release(
    deps: Dependencies, actor: Actor, digest: str, target: Path, progress: Progress, form: ExportForm | None = None
) -> ExportedRelease:
    """Writes an approved release to ``target``, all of it or nothing.

    Its signature, its approvals and every byte of its artifacts are checked first, as for production. Raises NotFound, Forbidden (role, not
    approved), Corrupt, InvalidInput (``export_nothing``) and what merging and
    ``ModelReader.write_gguf`` raise.
    """
    deps = deps.for_tenant(actor.tenant)
    release, form = show_release(deps, actor, digest), form or ExportForm()
    servable = admit(deps, LoadRequest(tenant=actor.tenant, release=release.digest, purpose="production"))
    _check_form(release, servable, form)
    # A new folder beside ``target``, which must not be there yet.
    if target.exists():
        raise InvalidInput(f"{target} is there already", "name a folder that does not exist")
    new = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    except OSError as error:
        raise InvalidInput(f"{target.parent} cannot be written ({error.strerror})", "name a folder where you may write") from error
    try:
        merged, gguf = _write(deps, release, servable, _ExportFolder(new, form), progress)
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    files = tuple(sorted(path.name for path in target.iterdir()))
    exported = ExportedRelease(release=release.digest, folder=str(target), files=files, merged=merged, gguf=gguf)
    facts: Facts = {"files": len(files), "merged": merged is not None, "mean_kl": merged.mean_kl if merged else 0.0}
    facts |= {"format": form.format, "part": form.part, "precision": form.precision}
    with deps.ledger.work(actor.tenant) as work:
        record(work, "release.exported", actor.name, release.digest, deps.clock.now(), facts)
    return exported


class _ExportFolder(NamedTuple):
    """The folder under its temporary name, and the form of what goes there."""

    folder: Path
    form: ExportForm


def _check_form(release: Release, servable: Servable, form: ExportForm) -> None:
    """Raises InvalidInput where the release has no such part, or the form contradicts itself."""
    if servable.floor is not None:
        what = "a classical model" if release.content.rung is RungKind.FLOOR else "an encoder with a linear head"
        raise InvalidInput(
            f"release {short(release.digest)} is {what}: there is no language model to merge it into",
            f"serve it with tailorbird, or adapt with a ladder that does not list the {release.content.rung.value}",
            code="export_nothing",
        )
    if servable.hosted is not None:
        raise InvalidInput(
            f"release {short(release.digest)} is a hosted model: its weights lie with the endpoint {servable.hosted.endpoint}",
            "serve it with tailorbird, or adapt with a ladder that lists rungs of this machine",
            code="export_nothing",
        )
    if form.part == "merged" and servable.adapter is None and servable.weights is None:
        raise InvalidInput(
            f"release {short(release.digest)} trained nothing: it is a prompt on {release.content.base_model_name}",
            "use the base model (--part base) with the prompt that release show prints",
            code="export_nothing",
        )
    if form.part == "adapter" and servable.adapter is None:
        raise InvalidInput(f"release {short(release.digest)} has no adapter", "export it without --part", code="export_nothing")
    if (form.format == "gguf" and form.part == "adapter") or (form.format != "gguf" and form.precision != "held"):
        raise InvalidInput(
            "a GGUF file holds a whole model, and a precision is chosen for it alone",
            "export an adapter as safetensors, without --precision",
            code="export_nothing",
        )


def _write(
    deps: Dependencies, release: Release, servable: Servable, place: _ExportFolder, progress: Progress
) -> tuple[Merged | None, GgufFile | None]:
    """What was merged, and the GGUF file, where there is one."""
    folder, form = place
    # The record of the base model, with its licence.
    with deps.ledger.work(release.content.tenant, write=False) as work:
        known = [work.records.get(BaseModelRef, digest) for digest in work.records.digests(BaseModelRef)]
    base = next(base for base in known if base.digest == release.content.base_model)
    if form.format == "safetensors":
        merged, gguf = _write_safetensors(deps, servable, form, folder, progress), None
    else:
        merged, gguf = _write_gguf(deps, servable, place, _facts(release, form, base), progress)
    (folder / "README.md").write_bytes(deps.artifacts.get(release.dossier.card))
    told = {"release": release.digest, "content": plain_json(release.content), "merged": plain_json(merged) if merged else None}
    told |= {"part": form.part, "base_model": {"name": base.name, "license": base.license}, "gguf": plain_json(gguf) if gguf else None}
    (folder / _MANIFEST).write_bytes(canonical_json(told) + b"\n")
    return merged, gguf


def _write_safetensors(deps: Dependencies, servable: Servable, form: ExportForm, folder: Path, progress: Progress) -> Merged | None:
    copied = {"base": servable.base, "adapter": servable.adapter, "merged": servable.weights}[form.part]
    if copied is not None:
        progress.tell("copying the weights")
        shutil.copytree(copied, folder, dirs_exist_ok=True)
        return None
    progress.tell("merging the adapter into its base, and comparing")
    return deps.trainer().merge(_merge_job(servable, folder))


def _write_gguf(
    deps: Dependencies, servable: Servable, place: _ExportFolder, facts: dict[str, str], progress: Progress
) -> tuple[Merged | None, GgufFile]:
    folder, form = place
    whole = folder / _WHOLE
    whole.mkdir()
    if form.part == "merged":
        merged, source = _write_safetensors(deps, servable, form, whole, progress), whole
    else:
        merged, source = None, Path(servable.base)
    progress.tell("writing GGUF, reading it back, and comparing")
    job = GgufJob(
        source=source,
        target=folder / f"{'model' if form.part == 'merged' else form.part}.gguf",
        precision=form.precision,
        facts=facts,
        prompt=servable.prompt,
        probes=_PROBES,
    )
    written = deps.model_reader().write_gguf(job)
    shutil.rmtree(whole)
    return merged, written


def _facts(release: Release, form: ExportForm, base: BaseModelRef) -> dict[str, str]:
    """What a GGUF file says of itself, by the keys that readers of the format know, and one of our own: which release it is of."""
    own = {} if form.part == "base" else {"tailorbird.release": release.digest}
    name = base.name if form.part == "base" else f"{release.content.objective_name} {short(release.digest)}"
    of = {} if form.part == "base" else {"general.base_model.0.name": base.name}
    return own | of | {"general.name": name, "general.license": base.license}


def _merge_job(servable: Servable, folder: Path) -> MergeJob:
    assert servable.adapter is not None
    answers = servable.prompt.answers or ("Yes.",)
    probes = tuple(Example(text=text, target=answers[place % len(answers)]) for place, text in enumerate(_PROBES))
    return MergeJob(base=Path(servable.base), adapter=Path(servable.adapter), target=folder, prompt=servable.prompt, probes=probes)
