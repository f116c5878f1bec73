"""Effect checks: a release answers once its engine has shown what the release changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import Corrupt, TailorbirdError
from tailorbird.domain.evidence import EffectProof, EffectReading, EffectStanding, TokenChances, chances_of_labels
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import EngineDriver, EngineState, LoadRequest, ProbeRequest, ScoreRequest
from tailorbird.release.reference_probes import effect_reading, is_provable

#: Seconds for which a refusal is told of; what is wanted is tried again within half a minute.
_REFUSED_FOR = 90.0
#: Answers by bases that are remembered: more than the probes of a hundred bases.
_MOST_BASES = 2048

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
        self.ask, self.close = driver.ask, driver.close
        self._readings: dict[Digest, EffectReading] = {}
        self._bases: dict[Digest, TokenChances] = {}
        self._refused_at: dict[Digest, float] = {}

    @property
    def readings(self) -> Mapping[Digest, EffectReading]:
        """What the engine last showed of each release, of those that it holds and of those that were refused."""
        return self._readings

    async def load(self, request: LoadRequest) -> None:
        """As ``EngineDriver.load``. Raises Corrupt too: ``adapter_inert`` where the engine answers as the base does, ``adapter_differs``
        where it answers as neither."""
        # The engine is asked for its list only where it may say yes: that of thousands, for each of thousands, took longer than the loads.
        shown = self._holds(request.release) and request.release in (await self.status()).loaded
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

    async def status(self) -> EngineState:
        """As ``EngineDriver.status``; of the releases that the engine has loaded those whose effect was shown."""
        state = await self._driver.status()
        held = frozenset(state.loaded)
        if any(release not in held for release in self._readings if self._holds(release)):
            # The engine is not the one that was asked: what its base answered is worth nothing any more.
            self._bases = {}
            self._readings = {
                release: reading for release, reading in self._readings.items() if release in held or not self._holds(release)
            }
        # A release that was refused and that nobody tries to load any more is of no interest.
        old = time.monotonic() - _REFUSED_FOR
        for release in [release for release, at in self._refused_at.items() if at < old]:
            del self._refused_at[release]
            if not self._holds(release):
                self._readings.pop(release, None)
        return state.model_copy(update={"loaded": tuple(filter(self._holds, state.loaded))})

    def _holds(self, release: Digest) -> bool:
        reading = self._readings.get(release)
        return reading is not None and reading.standing not in (EffectStanding.INERT, EffectStanding.DIFFERS)

    async def _shown(self, request: LoadRequest) -> EffectReading:
        """What the engine shows. Raises Corrupt, and tells of it."""
        proof = await asyncio.to_thread(self._proofs.proof, request)
        if proof is None:
            _log.debug("release %s carries no proof of effect (effect_unproven)", short(request.release))
            return EffectReading(standing=EffectStanding.UNPROVEN)
        if not is_provable(proof):
            return EffectReading(standing=EffectStanding.UNPROVABLE)
        prompts = tuple(probe.prompt for probe in proof.probes)
        if proof.kind == "scores":
            reading = effect_reading(proof, await asyncio.gather(*(self._scored(request.release, one, proof.labels) for one in prompts)))
        else:
            base = await self._base(request.release, proof, prompts) if proof.kind in ("base", "adapter") else None
            candidate = base if proof.kind == "base" else await self.ask(ProbeRequest(release=request.release, prompts=prompts))
            assert candidate is not None
            reading = effect_reading(proof, candidate, base if proof.kind == "adapter" else None)
        if (error := unlike(request.release, reading)) is not None:
            self._readings[request.release], self._refused_at[request.release] = reading, time.monotonic()
            self._bases = {}
            await asyncio.to_thread(self._proofs.refused, request, error)
            raise error
        return reading

    async def _scored(self, release: Digest, prompt: Sequence[Message], labels: Sequence[str]) -> TokenChances:
        found = await self.ask(ScoreRequest(release=release, prompt=tuple(prompt), labels=tuple(labels)))
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
            found = await self.ask(ProbeRequest(release=release, prompts=tuple(missing.values()), bare=True))
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
