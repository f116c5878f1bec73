"""A few timed steps of a job: what planning fits its formulas to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from tailorbird.domain.timing import Calibration, TimedPass
from tailorbird.ports.trainer import TrainingJob
from tailorbird.system.clock import SystemClock
from tailorbird.system.files import digest_file, private_folder
from tailorbird.system.peak_memory import PeakMemory, resident_gib
from tailorbird.training.batches import Batches
from tailorbird.training.checkpoints import write_tensors
from tailorbird.training.methods import Learner, method_named
from tailorbird.training.network import TYPES, Network, pick_device
from tailorbird.training.optimiser import Optimiser
from tailorbird.training.packing import pack
from tailorbird.training.stopwatch import REPEATS, Stopwatch
from tailorbird.training.tokenization import RowTokenizer, TokenizedRow
from tailorbird.training.work_clocks import threads

#: A pass this many times shorter than the longest tells what a pass costs whatever its length.
_SHORTER = 4
_WRITTEN = 128 * 2**20


def calibrate(job: TrainingJob, machine: str, efficiency: float) -> Calibration:
    """As ``Trainer.calibrate``."""
    with threads(job.settings.threads):
        watch = Stopwatch(pick_device(), efficiency)
        try:
            return _calibrated(job, machine, watch)
        finally:
            watch.leave()


def _calibrated(job: TrainingJob, machine: str, watch: Stopwatch) -> Calibration:
    process_gb, made = resident_gib(), list[tuple[Network, Optimiser, int]]()
    read_seconds = watch.once(lambda: made.append(_ready(job)))
    network, optimiser, trained = made[0]
    rows = RowTokenizer(job.base).encode(job.prompt, job.train)
    longest = max(Batches(rows, job.settings).at(0), key=lambda part: sum(len(row.ids) for row in part))
    shorter = longest[: max(1, len(longest) // _SHORTER)]
    # The first step makes the moments and chooses kernels.
    _pass(network, shorter)
    first_update = watch.once(lambda: optimiser.update(0.0))
    held_gb = resident_gib()
    passes = [_timed(network, optimiser, part, watch) for part in ((shorter, longest) if len(longest) > 1 else (longest,))]
    watch.learn(lambda: _pass(network, shorter), passes[0].seconds)
    optimiser.forget_gradients()
    _pass(network, shorter)
    update = watch.once(lambda: optimiser.update(0.0))
    return Calibration(
        machine=machine,
        base_model=job.base_digest,
        settings=job.settings,
        measured_at=SystemClock().now(),
        passes=tuple(passes),
        update_seconds=update,
        moments_seconds=max(0.0, first_update - update),
        read_seconds=read_seconds,
        write_mb_s=_written_mb_s(job.workspace, watch),
        process_gb=process_gb,
        held_gb=held_gb,
        trained_parameters=trained,
        efficiency=round(watch.efficiency, 3),
        loaded=watch.loaded,
    )


def _ready(job: TrainingJob) -> tuple[Network, Optimiser, int]:
    method = method_named(job.settings.method)
    torch.manual_seed(job.settings.seed)
    model = method.read(job.base, TYPES["fp32" if method.master_weights else job.settings.precision], pick_device())
    learner = Learner(model, job.settings, job.base)
    method.check(learner)
    network = Network(model, job.settings.precision)
    parameters = method.prepare(learner)
    return network, Optimiser(parameters, job.settings, method.rates(learner)), sum(p.numel() for p in parameters.values())


def _timed(network: Network, optimiser: Optimiser, rows: Sequence[TokenizedRow], watch: Stopwatch) -> TimedPass:
    packed = pack(rows, network.dtype, network.device)
    mark = PeakMemory()

    def both() -> None:
        _pass(network, rows)
        _wait(network)

    def forward() -> None:
        network.answer_losses(packed)
        _wait(network)

    return TimedPass(
        tokens=packed.tokens,
        pairs=packed.tree.pairs,
        answers=packed.loss_tokens,
        seconds=watch.least(both, after=optimiser.forget_gradients),
        forward_seconds=watch.least(forward),
        peak_gb=_peak(network, mark),
    )


def _pass(network: Network, rows: Sequence[TokenizedRow]) -> None:
    torch.autograd.backward(network.loss_sum(pack(rows, network.dtype, network.device)))


def _peak(network: Network, mark: PeakMemory) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if network.device.type == "cuda" else mark.gib


def _wait(network: Network) -> None:
    if network.device.type == "cuda":
        torch.cuda.synchronize()


def _written_mb_s(folder: Path, watch: Stopwatch) -> float:
    """How fast a checkpoint is kept: written, synced, and read again for its digest."""
    private_folder(folder)
    probe, tensors = folder / ".calibration", {"probe": torch.ones(_WRITTEN, dtype=torch.uint8)}

    def keep() -> None:
        write_tensors(probe, tensors)
        digest_file(probe)

    seconds = min(watch.once(keep) for _ in range(REPEATS))
    probe.unlink()
    return _WRITTEN / 1e6 / max(1e-6, seconds)
