"""Every method, by the same tests; and LoRA against stock PEFT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.training_samples import ALL_LINEAR, MakeJob, TrainWhole, adapters, variants
from tailorbird.domain.errors import Unavailable
from tailorbird.training import methods, open_trainer
from tailorbird.training.batches import RowTokenizer
from tailorbird.training.methods import METHODS, QloraLinear, quantised

#: PEFT asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def test_a_quantised_layer_computes_with_the_weight_it_stands_for() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 96)
    plain = linear.weight.detach().clone()
    layer = QloraLinear(quantised(linear), 4, 2.0)
    layer.B.data.normal_()
    error = (layer.frozen() - plain).norm() / plain.norm()
    assert 0.01 < error < 0.15
    x = torch.randn(7, 128, requires_grad=True)
    whole = layer.frozen() + 2.0 * layer.B @ layer.A
    torch.testing.assert_close(layer(x), x @ whole.T + linear.bias, rtol=1e-4, atol=1e-4)
    layer(x).square().sum().backward()
    y = x.detach() @ whole.detach().T + linear.bias.detach()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * y @ whole.detach(), rtol=1e-3, atol=1e-3)
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == {"A", "B"}


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


def test_a_full_result_stands_alone_and_names_no_place_of_this_machine(make_job: MakeJob) -> None:
    folder = open_trainer().train(make_job("full", epochs=1), lambda _: None).folder
    assert AutoTokenizer.from_pretrained(folder).encode("<|im_end|>") == [2]
    assert str(folder.parent) not in (folder / "config.json").read_text(encoding="utf-8")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")


def test_the_same_job_gives_the_same_bytes_and_another_seed_others(make_job: MakeJob) -> None:
    trainer = open_trainer()
    adapters = [
        (trainer.train(make_job(workspace=name, seed=seed, epochs=1), lambda _: None).folder / "adapter_model.safetensors").read_bytes()
        for name, seed in (("one", 5), ("two", 5), ("three", 6))
    ]
    assert adapters[0] == adapters[1] != adapters[2]


def test_the_adapter_config_names_no_path(make_job: MakeJob) -> None:
    folder = open_trainer().train(make_job(epochs=1), lambda _: None).folder
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] is None
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (4, 8, sorted(ALL_LINEAR))
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_without_bitsandbytes_it_is_refused_with_what_to_install(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda _: None)
    with pytest.raises(Unavailable) as caught:
        open_trainer().train(make_job("qlora"), lambda _: None)
    assert caught.value.error_code == "package_missing"
    (finding,) = open_trainer().examine(make_job("qlora")).findings
    assert finding.code == "package_missing"
