"""Timed training steps for the planner, on a stopwatch that discounts the load of other processes.

Beside other work seconds that pass tell nothing. The processor time of the calling thread does: with threads that soon sleep while they
wait for one another (``GOMP_SPINCOUNT``) it grows by what the thread computes and by little else, and the calling thread takes its share
of every product and all that lies between. Divided by the share of the time that it computes on a quiet machine (its efficiency: the rest
it waits for other threads) it is what the work takes there.

Machine benchmark: cores, memory, GPUs and matmul rates of the device that training would pick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from tailorbird.domain.plan import Calibration, Machine, TimedPass
from tailorbird.ports.trainer import TrainingJob
from tailorbird.system.clock import SystemClock
from tailorbird.system.files import digest_file, private_folder
from tailorbird.system.threads import ClockReading, read, ready_here, usable_cores
from tailorbird.training.batches import Batches, RowTokenizer, TokenizedRow
from tailorbird.training.checkpoints import write_tensors
from tailorbird.training.devices import (
    GIB,
    DevicePeak,
    computing_threads,
    gpu_names,
    is_bf16_fast,
    is_gpu,
    memory_bytes,
    pick_device,
    thread_pool,
    used_gib,
    wait_for,
)
from tailorbird.training.loop import Optimiser
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import TYPES, Network

#: The least of so many is taken: what else goes on at a machine only ever adds.
REPEATS = 2
#: Share of the time that the calling thread computes where that was never measured.
EFFICIENCY = 0.9


class Stopwatch:
    """Times pieces of work; ``loaded`` tells whether one of them was read beside other work.

    ``efficiency`` is what an earlier quiet reading on this machine found; 0 where there is none.
    """

    def __init__(self, device: torch.device, efficiency: float = 0.0) -> None:
        self._gpu, self._pool = is_gpu(device), thread_pool()
        self._given = efficiency or EFFICIENCY
        self.loaded = False
        #: What was learned here; 0 where nothing was.
        self.efficiency = 0.0

    def least(self, work: Callable[[], object], after: Callable[[], object] = lambda: None, lasting: float = 0.0) -> float:
        """Seconds of the fastest of several times, for ``lasting`` seconds at least; ``after`` is done each time and not timed."""
        readings, started = list[ClockReading](), time.perf_counter()
        while len(readings) < REPEATS or time.perf_counter() - started < lasting:
            readings.append(read(work, self._pool))
            after()
        quiet = [one.passed for one in readings if self._gpu or not one.loaded]
        if quiet:
            return min(quiet)
        self.loaded = True
        return min(one.thread for one in readings) / self._given

    def learn(self, work: Callable[[], object], seconds: float) -> None:
        """The efficiency, from ``work`` that takes ``seconds`` on this machine, where it is quiet."""
        if self.loaded or self._gpu or not seconds:
            return
        one = read(work, self._pool)
        self.efficiency = 0.0 if one.loaded else min(1.0, one.thread / seconds)

    def once(self, work: Callable[[], object]) -> float:
        """Seconds of what can be done only once, or is mostly done by the disk."""
        ready, one = ready_here(), read(work, self._pool)
        if self._gpu or not one.loaded:
            return one.passed
        self.loaded = True
        return max(one.thread, one.passed - (ready_here() - ready))


#: A pass this many times shorter than the longest tells what a pass costs whatever its length.
_SHORTER = 4
_WRITTEN = 128 * 2**20


def calibrate(job: TrainingJob, machine: str, efficiency: float) -> Calibration:
    """As ``Trainer.calibrate``."""
    with computing_threads(job.settings.threads):
        return _calibrated(job, machine, Stopwatch(pick_device(), efficiency))


def _calibrated(job: TrainingJob, machine: str, watch: Stopwatch) -> Calibration:
    process_gb, made = used_gib(pick_device()), list[tuple[Network, Optimiser, int]]()
    read_seconds = watch.once(lambda: made.append(_ready(job)))
    network, optimiser, trained = made[0]
    rows = RowTokenizer(job.base, thinking=job.prompt.thinking).encode(job.prompt, job.train)
    network.settle(rows)
    longest = max(Batches(rows, job.settings, network.layout).at(0), key=lambda part: sum(len(row.ids) for row in part))
    shorter = longest[: max(1, len(longest) // _SHORTER)]
    # The first step makes the moments and chooses kernels.
    _pass(network, shorter)
    first_update = watch.once(lambda: _update(network, optimiser))
    held_gb = used_gib(network.device)
    passes = [_timed(network, optimiser, part, watch) for part in ((shorter, longest) if len(longest) > 1 else (longest,))]
    watch.learn(lambda: _pass(network, shorter), passes[0].seconds)
    optimiser.forget_gradients()
    _pass(network, shorter)
    update = watch.once(lambda: _update(network, optimiser))
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
    method = METHODS[job.settings.method]
    torch.manual_seed(job.settings.seed)
    model = method.read(job.base, TYPES["fp32" if method.master_weights else job.settings.precision], pick_device())
    learner = Learner(model, job.settings, job.base)
    method.check(learner)
    network = Network(model, job.settings.precision)
    parameters = method.prepare(learner)
    return network, Optimiser(parameters, job.settings), sum(p.numel() for p in parameters.values())


def _timed(network: Network, optimiser: Optimiser, rows: Sequence[TokenizedRow], watch: Stopwatch) -> TimedPass:
    packed = network.pack(rows)
    mark = DevicePeak(network.device)

    def both() -> None:
        _pass(network, rows)
        wait_for(network.device)

    def forward() -> None:
        network.answer_losses(packed)
        wait_for(network.device)

    return TimedPass(
        tokens=packed.tokens,
        pairs=packed.pairs,
        answers=packed.loss_tokens,
        seconds=watch.least(both, after=optimiser.forget_gradients),
        forward_seconds=watch.least(forward),
        peak_gb=mark.gib,
    )


def _update(network: Network, optimiser: Optimiser) -> None:
    wait_for(network.device)
    optimiser.update(0.0)
    wait_for(network.device)


def _pass(network: Network, rows: Sequence[TokenizedRow]) -> None:
    torch.autograd.backward(network.loss_sum(network.pack(rows)))


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


_SIDE = 1024
_SECONDS = 0.4


def measure_machine() -> Machine:
    """Cores this process may use, GPUs, and memory and matmul rates of the device that training would pick. About a second."""
    device = pick_device()
    watch = Stopwatch(device)
    fp32, bf16 = (_matmul_gflops(dtype, device, watch) for dtype in (torch.float32, torch.bfloat16))
    return Machine(
        cores=usable_cores(),
        memory_gb=round(memory_bytes(device) / GIB, 2),
        gpus=gpu_names(),
        fp32_gflops=fp32,
        bf16_gflops=bf16,
        fast_bf16=is_bf16_fast(device),
        four_bit=find_spec("bitsandbytes") is not None,
        threads=0 if is_gpu(device) else torch.get_num_threads(),
        loaded=watch.loaded,
    )


def cpu_capability() -> str:
    """The instructions by which products are computed on this processor, whose sums differ in their last bits."""
    return f"{torch.backends.cpu.get_cpu_capability()}{' bf16' if is_bf16_fast(torch.device('cpu')) else ''}"


@torch.no_grad()
def _matmul_gflops(dtype: torch.dtype, device: torch.device, watch: Stopwatch) -> float:
    """The fastest of repeated square matmuls."""
    square = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)

    def product() -> None:
        square @ square
        wait_for(device)

    product()
    return round(2 * _SIDE**3 / watch.least(product, lasting=_SECONDS) / 1e9, 1)
