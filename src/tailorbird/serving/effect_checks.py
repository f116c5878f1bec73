"""Effect checks: a release answers once its engine has shown what the release changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.effect import EffectProof, EffectReading, EffectStanding, TokenChances, chances_of_labels
from tailorbird.domain.errors import Corrupt, TailorbirdError
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, Embeddings, EngineDriver, EngineState, LabelScores, LoadRequest, ProbeRequest, Ranked
from tailorbird.stats.effect_distance import effect_reading, is_provable

#: Seconds for which a refusal is told of; what is wanted is tried again within half a minute.
_REFUSED_FOR = 90.0
#: Answers by bases that are remembered: more than the probes of a hundred bases.
_MOST_BASES = 2048

#: Parts of a load, one after another.
LOAD_PARTS = ("engine", "proof", "probes")

_log = logging.getLogger("tailorbird.serving")


class EffectProofs(Protocol):
    """Where proofs are read, and who is told of a release that did not hold to its own."""

    def proof(self, request: LoadRequest) -> EffectProof | None:
        """Proof that was signed with a release; None for one that has none. Raises NotFound, Corrupt, Forbidden. May wait."""
        ...

    def refused(self, request: LoadRequest, error: TailorbirdError) -> None:
        """A release was not loaded. May wait."""
        ...


class EffectChecks:
    """An ``EngineDriver`` that lets ``driver`` answer only with releases whose effect it has shown.

    What the engine held before is shown first: an engine that was upgraded and restarted, or that another gateway used, is asked again.
    """

    def __init__(self, driver: EngineDriver, proofs: EffectProofs) -> None:
        self._driver, self._proofs = driver, proofs
        self._readings: dict[Digest, EffectReading] = {}
        self._bases: dict[Digest, TokenChances] = {}
        self._refused_at: dict[Digest, float] = {}
        #: Seconds that loads took, failed ones too: the engine's part (verification, reading), the signed proof's, and that of the probes.
        self.seconds = dict.fromkeys(LOAD_PARTS, 0.0)

    @property
    def readings(self) -> Mapping[Digest, EffectReading]:
        """What the engine last showed of each release, of those that it holds and of those that were refused."""
        return self._readings

    async def load(self, request: LoadRequest) -> None:
        """As ``EngineDriver.load``. Raises Corrupt too: ``adapter_inert`` where the engine answers as the base does, ``adapter_differs``
        where it answers as neither."""
        # The engine is asked for its list only where it may say yes: that of thousands, for each of thousands, took longer than the loads.
        shown = self._holds(request.release) and request.release in await self.loaded()
        with self._timed("engine"):
            await self._driver.load(request)
        if shown:
            return
        try:
            self._readings[request.release] = await self._shown(request)
        except BaseException:
            # What cannot be taken out answers nobody all the same: it is not among those that were shown.
            with suppress(TailorbirdError):
                await self._driver.unload(request.release)
            raise

    async def unload(self, release: Digest) -> None:
        """As ``EngineDriver.unload``."""
        await self._driver.unload(release)
        self._readings.pop(release, None)

    async def loaded(self) -> tuple[Digest, ...]:
        """Releases that the engine holds and whose effect was shown."""
        told = await self._driver.loaded()
        held = frozenset(told)
        if any(release not in held for release in self._readings if self._holds(release)):
            # The engine is not the one that was asked: what its base answered is worth nothing any more.
            self._bases = {}
            self._readings = {
                release: reading for release, reading in self._readings.items() if release in held or not self._holds(release)
            }
        self._forget_refusals()
        return tuple(release for release in told if self._holds(release))

    async def score(
        self, release: Digest, prompt: Sequence[Message], labels: Sequence[str], groups: frozenset[str] = frozenset()
    ) -> LabelScores:
        """As ``EngineDriver.score``."""
        return await self._driver.score(release, prompt, labels, groups)

    def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        """As ``EngineDriver.stream``."""
        return self._driver.stream(release, prompt, sampling, groups)

    async def retrieve(self, release: Digest, text: str, groups: frozenset[str], count: int) -> list[RetrievedEntry]:
        """As ``EngineDriver.retrieve``."""
        return await self._driver.retrieve(release, text, groups, count)

    async def rank(self, release: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """As ``EngineDriver.rank``."""
        return await self._driver.rank(release, text, documents, count)

    async def embed(self, release: Digest, texts: Sequence[str]) -> Embeddings:
        """As ``EngineDriver.embed``."""
        return await self._driver.embed(release, texts)

    async def probe(self, request: ProbeRequest) -> list[TokenChances] | None:
        """As ``EngineDriver.probe``."""
        return await self._driver.probe(request)

    async def state(self) -> EngineState:
        """As ``EngineDriver.state``."""
        return await self._driver.state()

    async def ready(self) -> bool:
        """As ``EngineDriver.ready``."""
        return await self._driver.ready()

    async def close(self) -> None:
        """As ``EngineDriver.close``."""
        await self._driver.close()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - started

    def _holds(self, release: Digest) -> bool:
        reading = self._readings.get(release)
        return reading is not None and reading.standing not in (EffectStanding.INERT, EffectStanding.DIFFERS)

    def _forget_refusals(self) -> None:
        """A release that was refused and that nobody tries to load any more is of no interest."""
        old = time.monotonic() - _REFUSED_FOR
        for release in [release for release, at in self._refused_at.items() if at < old]:
            del self._refused_at[release]
            if not self._holds(release):
                self._readings.pop(release, None)

    async def _shown(self, request: LoadRequest) -> EffectReading:
        """What the engine shows. Raises Corrupt, and tells of it."""
        with self._timed("proof"):
            proof = await asyncio.to_thread(self._proofs.proof, request)
        if proof is None:
            _log.debug("release %s carries no proof of effect (effect_unproven)", short(request.release))
            return EffectReading(standing=EffectStanding.UNPROVEN)
        if not is_provable(proof):
            return EffectReading(standing=EffectStanding.UNPROVABLE)
        with self._timed("probes"):
            reading = await self._asked(request.release, proof)
        if (error := unlike(request.release, reading)) is not None:
            self._readings[request.release], self._refused_at[request.release] = reading, time.monotonic()
            self._bases = {}
            await asyncio.to_thread(self._proofs.refused, request, error)
            raise error
        return reading

    async def _asked(self, release: Digest, proof: EffectProof) -> EffectReading:
        prompts = tuple(probe.prompt for probe in proof.probes)
        if proof.kind == "scores":
            return effect_reading(proof, await asyncio.gather(*(self._scored(release, prompt, proof.labels) for prompt in prompts)))
        if proof.kind == "base":
            base = await self._base(release, proof, prompts)
            assert base is not None
            return effect_reading(proof, base)
        candidate = await self._driver.probe(ProbeRequest(release=release, prompts=prompts))
        assert candidate is not None
        return effect_reading(proof, candidate, await self._base(release, proof, prompts) if proof.kind == "adapter" else None)

    async def _scored(self, release: Digest, prompt: Sequence[Message], labels: Sequence[str]) -> TokenChances:
        found = await self._driver.score(release, prompt, labels)
        return chances_of_labels(labels, found.log_probabilities)

    async def _base(self, release: Digest, proof: EffectProof, prompts: tuple[tuple[Message, ...], ...]) -> list[TokenChances] | None:
        """Chances by the base: each probe is asked once for all releases on it, which share most of theirs."""
        # The base beside adapters may be asked on another server than that of a prompt.
        keys = [digest_of({"kind": proof.kind, "text": one.text, "base": one.base.model_dump(mode="json")}) for one in proof.probes]
        # Where all is forgotten meanwhile, with the engine that gave it, what is found goes into a map that nobody reads any more.
        bases = self._bases
        known = {key: bases[key] for key in keys if key in bases}
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        if missing:
            found = await self._driver.probe(ProbeRequest(release=release, prompts=tuple(missing.values()), bare=True))
            if found is None:
                return None
            known |= zip(missing, found, strict=True)
        for key, chances in known.items():
            bases.pop(key, None)
            bases[key] = chances
        # What was asked for last stays longest.
        for key in list(bases)[:-_MOST_BASES]:
            del bases[key]
        return [known[key] for key in keys]


def unlike(release: Digest, reading: EffectReading) -> Corrupt | None:
    """Error about an engine that does not do with ``release`` what was measured; None where it does."""
    if reading.standing is EffectStanding.INERT:
        return Corrupt(
            f"the engine loaded release {short(release)} and answers as its base does ({reading.effect:.3f} nats apart)",
            "the adapter is not applied: see which modules the engine maps, or serve the release with another engine",
            code="adapter_inert",
        )
    if reading.standing is EffectStanding.DIFFERS:
        return Corrupt(
            f"the engine loaded release {short(release)} and answers {reading.distance:.3f} nats from what was measured; "
            f"its own noise of {reading.noise:.3f} allows {reading.allowed:.3f}",
            "another adapter, a part of it, or another base or precision answers: compare the engine with the one in the evidence",
            code="adapter_differs",
        )
    return None
