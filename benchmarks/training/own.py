"""Our side, one step at a time, through the trainer's face.

In: a Spec as JSON argument. Out: lines on stdout; the trained model in the folder named there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from workload import ALL_LINEAR, INSTRUCTION, Gate, Memory, Spec, read_messages

from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import Example, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.loop import Flops
from tailorbird.training.network import Network

DIGEST = "sha256:" + "0" * 64


def job(spec: Spec) -> TrainingJob:
    pairs, labels = read_messages(seed=1)
    some = [Example(text=text, target=label) for text, label in pairs]
    count = spec.steps * spec.batch_size
    return TrainingJob(
        base=Path(spec.base),
        base_digest=DIGEST,
        snapshot=DIGEST,
        settings=settings(spec),
        prompt=PromptSpec(instruction=INSTRUCTION, labels=tuple(labels), list_labels=spec.long),
        train=tuple(some[:count]),
        held_out=tuple(some[-spec.held_out :]),
        workspace=Path(spec.out),
    )


def settings(spec: Spec) -> TrainingSettings:
    return TrainingSettings(
        method=spec.method,
        lora=None if spec.method == "full" else LoraSettings(rank=spec.rank, alpha=spec.alpha, targets=ALL_LINEAR),
        learning_rate=spec.learning_rate,
        epochs=1,
        batch_size=spec.batch_size,
        token_budget=4096,
        max_length=2048,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision="fp32" if spec.variant == "bf16" else "bf16",
        seed=spec.seed,
    )


def matmul_rate(seconds: float = 0.1) -> float:
    """FLOP/s of bf16 matmuls over a window just before a step, so that it meets the load that the step meets."""
    square = torch.ones(1024, 1024, dtype=torch.bfloat16)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        _ = square @ square
        done += 2 * 1024**3
    return done / (time.perf_counter() - started)


class Watch:
    """Hears each step, and holds the next one until it is let on."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.memory = Memory()
        self.flops = 0.0
        self.peak = self.cpu_started = 0.0
        self.called = time.perf_counter()
        self.before = 0

    def look(self) -> None:
        """Notes what is loaded and what each forward pass costs."""
        make, of = Network.__init__, Flops.of

        def noted_make(network: Network, *what: Any, **more: Any) -> None:
            make(network, *what, **more)
            self.memory.loaded()

        def noted_of(flops: Flops, *what: Any, **more: Any) -> float:
            spent = of(flops, *what, **more)
            self.flops += spent
            return spent

        Network.__init__ = noted_make  # type: ignore[method-assign]
        Flops.of = noted_of  # type: ignore[method-assign]

    def hear(self, line: TrainingProgress) -> None:
        if line.step:
            seconds = (line.tokens - self.before) / line.tokens_per_second
            self.before = line.tokens
            tokens = round(seconds * line.tokens_per_second)
            cpu = time.process_time() - self.cpu_started
            self.gate.say(
                "step",
                seconds=seconds,
                cpu_seconds=cpu,
                tokens=tokens,
                flops=self.flops,
                matmul=self.peak,
                since_call=time.perf_counter() - self.called,
            )
        if line.step < line.steps:
            self.gate.wait()
            self.peak, self.flops = matmul_rate(), 0.0
            self.cpu_started = time.process_time()


def main() -> None:
    spec = Spec.load(sys.argv[1])
    torch.set_num_threads(spec.threads)
    watch, work = Watch(Gate()), job(spec)
    watch.look()
    watch.called = time.perf_counter()
    trained = open_trainer().train(work, watch.hear)
    watch.gate.say(
        "done", memory=watch.memory.above(), losses=[line.loss for line in trained.report.history[1:]], folder=str(trained.folder)
    )


if __name__ == "__main__":
    main()
