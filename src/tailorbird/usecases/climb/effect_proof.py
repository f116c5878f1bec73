"""Proof of effect of a candidate, measured when its release is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tailorbird import release
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import EffectProof, ReferenceProbe, TokenChances, chances_of_labels
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message
from tailorbird.ports.engine import Engine, ProbeRequest
from tailorbird.rungs import module_kinds, without_kind
from tailorbird.system.files import private_folder
from tailorbird.usecases.steps.step_context import StepContext

#: Decimals of a nat that are kept.
_DECIMALS = 4


def prove_effect(context: StepContext, candidate: Candidate) -> EffectProof | None:
    """What ``candidate`` changes in its base, or how it answers where nothing was trained in one, by the engine that measured it; None for
    a ranker and for a hosted model."""
    if candidate.hosted is not None or context.objective.task.kind is TaskKind.RANK:
        return None
    context.progress.tell("measuring how the candidate answers synthetic probes")
    place = private_folder(context.deps.scratch(context.run.id) or context.folder)
    return effect_proof(context.deps.engine(), context.servable(candidate), place)


def effect_proof(engine: Engine, servable: Servable, place: Path) -> EffectProof:
    """What the adapter or the weights of ``servable`` change; where it has none, how its base answers or what it scores. Variants of an
    adapter are written below ``place``, and removed.

    No row of data is read: the probes are written for this project, and a single token is looked at of each answer.
    """
    # An adapter's base is asked by the same servable; that of full weights is another model.
    base = servable.model_copy(update={"id": digest_of({"base of": servable.id}), "weights": None})
    sides = (servable, base) if servable.weights else (servable,)
    try:
        for each in sides:
            engine.load(each)
        measured = _Measurement(engine, servable, base, place)
        found = {"scores": measured.scores, "base": measured.of_base}.get(_kind(servable), measured.proof)()
    except InvalidInput as error:
        found = EffectProof(unprovable=f"the probes cannot be asked ({error.error_code})")
    finally:
        for each in sides:
            engine.unload(each.id)
    return found.model_copy(update={"engine": engine.fingerprint(), "kind": _kind(servable)})


def _kind(servable: Servable) -> str:
    if servable.floor is not None:
        return "scores"
    return "weights" if servable.weights else "adapter" if servable.adapter else "base"


class _Measurement:
    """Probes asked of one candidate, its base, and variants of its adapter."""

    def __init__(self, engine: Engine, servable: Servable, base: Servable, place: Path) -> None:
        self._engine, self._servable, self._place = engine, servable, place
        self._base = base if servable.weights else servable

    def proof(self) -> EffectProof:
        """The proof from the best probes. Raises InvalidInput where the model has no room for them."""
        base, candidate = (self._asked(release.PROBE_TEXTS, bare=bare) for bare in (True, False))
        sides = zip(release.PROBE_TEXTS, base, candidate, strict=True)
        probes = [ReferenceProbe(text=text, base=before, candidate=after) for text, before, after in sides]
        probes = [probes[place] for place in release.shortlist(probes)]
        texts = [probe.text for probe in probes]
        again = [(ask(texts, bare=True), ask(texts, bare=False)) for ask in (self._one_by_one, self._in_company)]
        return release.choose(probes, self._parts(texts), again)

    def of_base(self) -> EffectProof:
        """The proof of a prompt: how its base answers. Raises InvalidInput."""
        probes = _alike(release.PROBE_TEXTS, self._asked(release.PROBE_TEXTS))
        texts = [probe.text for probe in probes]
        return release.choose_of_base(probes, [ask(texts, bare=False) for ask in (self._one_by_one, self._in_company)])

    def scores(self) -> EffectProof:
        """The proof of a floor or an encoder: its scores of its labels."""
        labels = self._servable.prompt.answers
        found = self._engine.score(self._servable.id, [_question(text) for text in release.PROBE_TEXTS], labels)
        told = [_rounded(chances_of_labels(labels, one.log_probabilities)) for one in found]
        return release.choose_of_scores(_alike(release.PROBE_TEXTS, told), labels)

    def _asked(self, texts: Sequence[str], *, bare: bool = False, servable: Servable | None = None) -> list[TokenChances]:
        prompts = tuple(map(_question, texts))
        whom = servable or (self._base if bare else self._servable)
        asked = ProbeRequest(release=whom.id, prompts=prompts, bare=bare and whom.adapter is not None)
        return [_rounded(chances) for chances in self._engine.probe(asked)]

    def _one_by_one(self, texts: Sequence[str], *, bare: bool) -> list[TokenChances]:
        return [chances for text in texts for chances in self._asked([text], bare=bare)]

    def _in_company(self, texts: Sequence[str], *, bare: bool) -> list[TokenChances]:
        """The same, behind others in the batch and in another order."""
        others = release.PROBE_TEXTS[: len(texts)]
        return self._asked([*others, *reversed(texts)], bare=bare)[: -len(texts) - 1 : -1]

    def _parts(self, texts: Sequence[str]) -> dict[str, list[TokenChances]]:
        """The candidate without each kind of module that it changes; where it changes one kind, that is its base."""
        adapter = Path(str(self._servable.adapter))
        kinds = module_kinds(adapter) if self._servable.adapter else ()
        if len(kinds) < 2:
            return {kind: self._asked(texts, bare=True) for kind in kinds}
        with TemporaryDirectory(dir=self._place) as folder:
            return {kind: self._lacking(without_kind(adapter, Path(folder) / kind, kind), texts) for kind in kinds}

    def _lacking(self, adapter: Path, texts: Sequence[str]) -> list[TokenChances]:
        named = digest_of({"of": self._servable.id, "without": adapter.name})
        servable = self._servable.model_copy(update={"id": named, "adapter": str(adapter)})
        self._engine.load(servable)
        try:
            return self._asked(texts, servable=servable)
        finally:
            self._engine.unload(servable.id)


def _question(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _alike(texts: Sequence[str], told: Sequence[TokenChances]) -> list[ReferenceProbe]:
    return [ReferenceProbe(text=text, base=one, candidate=one) for text, one in zip(texts, told, strict=True)]


def _rounded(chances: TokenChances) -> TokenChances:
    return chances.model_copy(update={"nats": tuple(round(nats, _DECIMALS) for nats in chances.nats)})
