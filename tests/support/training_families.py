"""Training of a tiny model of any architecture, compared with transformers and PEFT."""

from __future__ import annotations

import contextlib
import hashlib
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoConfig

from support.training_samples import DIGEST, settings
from tailorbird.decoders import model_class
from tailorbird.domain.plan import LoraSettings, PreflightSeverity
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.run import TrainingProgress
from tailorbird.inference.model_description import describe_here
from tailorbird.ports.trainer import Example, MergeJob, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.batches import TokenizedRow, divide
from tailorbird.training.merge_export import merge
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import Network, proof_of

CPU = torch.device("cpu")
PROMPT = PromptSpec(instruction="Colour?", labels=("blue", "red"), list_labels=False)


def rows_of(lengths: tuple[int, ...] = (14, 21, 30, 44)) -> list[TokenizedRow]:
    """Random rows whose first eight tokens are the same."""
    drawn = torch.Generator().manual_seed(5)
    first = torch.randint(9, 250, (8,), generator=drawn).tolist()
    tails = [torch.randint(9, 250, (length - 8,), generator=drawn).tolist() for length in lengths]
    return [TokenizedRow((*first, *tail), length - 3) for tail, length in zip(tails, lengths, strict=True)]


def targets_of(folder: Path) -> tuple[str, ...]:
    """The layers that the description of the model offers for adapters."""
    return tuple(describe_here(folder).linear_shapes)


def adapted(folder: Path, method: str = "lora") -> tuple[Network, dict[str, torch.nn.Parameter], Learner]:
    """A model with adapters that already change something."""
    torch.manual_seed(3)
    lora = LoraSettings(rank=4, alpha=8, targets=targets_of(folder))
    chosen = METHODS[method]
    learner = Learner(chosen.read(folder, torch.float32, CPU), settings(method, lora=lora), folder)
    chosen.check(learner)
    parameters = chosen.prepare(learner)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith(".B"):
                parameter.normal_(std=0.1)
    return Network(learner.model, "fp32"), parameters, learner


def stock(folder: Path, adapter: Path | None = None) -> Any:
    """The model as transformers and PEFT read it."""
    model = model_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder, dtype=torch.float32).eval()
    if adapter is None:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(model, adapter, is_trainable=True)


def gradient_error(folder: Path, work: Path) -> tuple[float, float]:
    """Largest relative error of a parameter's gradient, rows together by us and each alone by transformers and PEFT; and that of logits."""
    network, parameters, learner = adapted(folder)
    rows = rows_of()
    network.settle(rows)
    parts = [network.loss_sum(network.pack(part)) for part in divide(rows, 100, network.layout)]
    ours = dict(zip(parameters, torch.autograd.grad(sum(parts), list(parameters.values())), strict=True))
    work.mkdir(parents=True, exist_ok=True)
    METHODS["lora"].save(learner, work)
    theirs = stock(folder, work)
    losses = []
    for row in rows:
        ids = torch.tensor([row.ids])
        logits = theirs(input_ids=ids[:, :-1], use_cache=False).logits[0, row.prompt - 1 :]
        losses.append(cross_entropy(logits, ids[0, row.prompt :], reduction="sum"))
    torch.autograd.backward(torch.stack(losses).sum())
    known = {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.grad is not None}
    assert len(known) == len(ours)
    worst = 0.0
    for name, grad in ours.items():
        path, _, factor = name.rpartition(".")
        other = known[f"base_model.model.{path}.lora_{factor}.default.weight"]
        assert other.norm() > 0, name
        worst = max(worst, float((grad - other).norm() / other.norm()))
    with torch.no_grad():
        ids = torch.tensor([rows[-1].ids])
        expected = theirs(input_ids=ids, use_cache=False).logits
        off = (network.model(input_ids=ids, use_cache=False).logits - expected).abs().max() / expected.abs().max()
    return worst, float(off)


def merged_divergence(folder: Path, adapter: Path, target: Path) -> float:
    """Mean divergence of the merged model from base and adapter, in nats a token."""
    target.mkdir()
    probes = tuple(Example(text=f"thing {i}", target="blue") for i in range(2))
    return merge(MergeJob(base=folder, adapter=adapter, target=target, prompt=PROMPT, probes=probes)).mean_kl


def job_of(folder: Path, workspace: Path, method: str = "lora") -> TrainingJob:
    """A few steps; rows are as long as a tiny model's tokenizer makes them."""
    lora = LoraSettings(rank=4, alpha=8, targets=targets_of(folder))
    rows = tuple(Example(text="ab" * (i % 3) + str(i), target=("blue", "red")[i % 2]) for i in range(10))
    return TrainingJob(
        base=folder,
        base_digest=DIGEST,
        snapshot=DIGEST,
        prompt=PROMPT,
        train=rows[:8],
        held_out=rows[8:],
        workspace=workspace,
        settings=settings(method, max_length=256, token_budget=400, epochs=1, **({} if method == "full" else {"lora": lora})),
    )


def resumed_alike(folder: Path, work: Path) -> bool:
    """Whether a training that was interrupted ends in the same bytes."""
    whole = open_trainer().train(job_of(folder, work / "whole"), lambda _: None)

    def interrupt(line: TrainingProgress) -> None:
        if line.step == 1:
            raise KeyboardInterrupt

    job = job_of(folder, work / "ended")
    with contextlib.suppress(KeyboardInterrupt):
        open_trainer().train(job, interrupt)
    again = open_trainer().train(job, lambda _: None)
    return _digest(whole.folder) == _digest(again.folder)


def _digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.safetensors")))).hexdigest()


def doctor_passes(folder: Path, work: Path) -> bool:
    """Whether the doctor examines the job and finds nothing that stands in its way."""
    examination = open_trainer().examine(job_of(folder, work))
    found = [finding.what for finding in examination.findings if finding.severity is PreflightSeverity.BLOCKING]
    assert not found, found[0]
    return True


def learns_on_four_bits(folder: Path, work: Path) -> bool:
    """Whether an adapter is trained on the quantised base, and stock PEFT loads it on the base as it is to other logits."""
    trained = open_trainer().train(job_of(folder, work, "qlora"), lambda _: None)
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        before, after = stock(folder)(input_ids=ids).logits, stock(folder, trained.folder)(input_ids=ids).logits
    return bool(torch.isfinite(after).all()) and not torch.equal(before, after)


def full_alike(folder: Path, work: Path) -> bool:
    """Whether all weights are trained, and the result is read by transformers to finite logits."""
    trained = open_trainer().train(job_of(folder, work, "full"), lambda _: None)
    with torch.no_grad():
        before, after = (stock(place)(input_ids=torch.tensor([[3, 4, 5, 6]])).logits for place in (folder, trained.folder))
    return bool(torch.isfinite(after).all()) and not torch.equal(before, after)


def check_training(folder: Path, work: Path) -> dict[str, Any]:
    """All columns of training for the model in ``folder``; what is raised stands as its kind and first words."""
    found: dict[str, Any] = {}
    proof = proof_of(AutoConfig.from_pretrained(folder))
    found |= {"layout": proof.layout.value, "head": "plain" if proof.head_scale is not None else "own"}

    def column(name: str, check: Any) -> None:
        started = time.monotonic()
        try:
            found[name] = check()
        except Exception as error:  # noqa: BLE001 - a column that fails says why
            found[name], found[f"{name}_why"] = False, f"{type(error).__name__}: {str(error)[:160]}"
        found[f"{name}_seconds"] = round(time.monotonic() - started, 2)

    def gradients() -> bool:
        worst, off = gradient_error(folder, work / "adapter")
        found.update(gradient_error=float(f"{worst:.1e}"), logits_error=float(f"{off:.1e}"))
        return worst <= 1e-3 and off <= 1e-4

    column("gradients", gradients)
    column("merged", lambda: merged_divergence(folder, work / "adapter", work / "merged") <= 1e-5)
    column("resumed", lambda: resumed_alike(folder, work / "resume"))
    column("doctor", lambda: doctor_passes(folder, work / "doctor"))
    column("qlora", lambda: learns_on_four_bits(folder, work / "qlora"))
    column("full", lambda: full_alike(folder, work / "full"))
    return found
