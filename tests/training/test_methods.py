"""Every method, by the same tests; and LoRA against stock PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from support.training_samples import MakeJob, TrainWhole, adapters, variants
from tailorbird.domain.errors import Unavailable
from tailorbird.training import methods, open_trainer
from tailorbird.training.batches import RowTokenizer
from tailorbird.training.methods import METHODS

#: PEFT asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.mark.parametrize(("method", "precision"), [(method, precision) for method in sorted(METHODS) for precision in ("fp32", "bf16")])
def test_training_lowers_the_held_out_loss_and_reports_it(method: str, precision: str, make_job: MakeJob) -> None:
    seen = []
    trained = open_trainer().train(make_job(method, precision=precision, epochs=3), seen.append)
    report = trained.report
    assert tuple(seen) == report.history
    assert [line.step for line in report.history] == list(range(report.steps + 1))
    assert report.best_held_out_loss < 0.7 * report.first_held_out_loss
    measured = {line.step: line.held_out_loss for line in report.history if line.held_out_loss is not None}
    assert report.best_held_out_loss == min(measured.values()) == measured[report.best_step]
    assert report.tokens > report.loss_tokens > 0
    assert report.flops > 0
    assert {"torch", "transformers", "peft", "python", "threads", "platform", "precision"} <= report.environment.keys()


def stock(method: str, base: Path, folder: Path) -> torch.nn.Module:
    """What stock libraries make of the result."""
    if method == "full":
        return AutoModelForCausalLM.from_pretrained(folder)
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)


@pytest.mark.parametrize(("method", "option"), variants())
def test_stock_libraries_load_the_result_to_the_best_held_out_loss(
    method: str, option: str, make_job: MakeJob, train_whole: TrainWhole
) -> None:
    job = make_job(method, **({} if option == "none" else {"lora": adapters()[option]}))
    trained = train_whole(job)
    held_out = RowTokenizer(job.base).encode(job.prompt, job.held_out)
    model = stock(method, job.base, trained.folder).eval()
    total = 0.0
    for row in held_out:
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits[0, row.prompt - 1 :]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, row.prompt :], reduction="sum"))
    mean = total / sum(len(row.ids) - row.prompt for row in held_out)
    # An adapter from a quantised base is loaded on the base as it is, where its loss is another one.
    assert mean == pytest.approx(trained.report.best_held_out_loss, rel=5e-2 if method == "qlora" else 1e-5)


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(make_job: MakeJob) -> None:
    trainer = open_trainer()
    adapters = [
        (trainer.train(make_job(workspace=name, seed=seed, epochs=1), lambda _: None).folder / "adapter_model.safetensors").read_bytes()
        for name, seed in (("one", 5), ("two", 5), ("three", 6))
    ]
    assert adapters[0] == adapters[1] != adapters[2]


def test_without_bitsandbytes_it_is_refused_with_what_to_install(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda _: None)
    with pytest.raises(Unavailable) as caught:
        open_trainer().train(make_job("qlora"), lambda _: None)
    assert caught.value.error_code == "package_missing"
    (finding,) = open_trainer().examine(make_job("qlora")).findings
    assert finding.code == "package_missing"
