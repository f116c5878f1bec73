"""Every method, by the same tests; and LoRA against stock PEFT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.training_samples import ALL_LINEAR, MakeJob, TrainWhole, settings
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import LoraSettings
from tailorbird.training import open_trainer
from tailorbird.training.batches import RowTokenizer, TokenizedRow, pack
from tailorbird.training.methods import METHODS, Learner, LoraLinear
from tailorbird.training.network import Network, read_model

#: PEFT asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CPU = torch.device("cpu")
IDS = torch.tensor([[1, 9690, 198, 2683, 359, 253, 44, 700]])


@pytest.mark.parametrize("method", sorted(METHODS))
def test_training_lowers_the_held_out_loss_and_reports_it(method: str, make_job: MakeJob) -> None:
    seen = []
    trained = open_trainer().train(make_job(method, epochs=3), seen.append)
    report = trained.report
    assert tuple(seen) == report.history
    assert [line.step for line in report.history] == list(range(report.steps + 1))
    assert report.best_held_out_loss < 0.7 * report.first_held_out_loss
    measured = {line.step: line.held_out_loss for line in report.history if line.held_out_loss is not None}
    assert report.best_held_out_loss == min(measured.values()) == measured[report.best_step]
    assert report.tokens > report.loss_tokens > 0
    assert report.flops > 0
    assert {"torch", "transformers", "peft", "python", "threads", "platform", "precision"} <= report.environment.keys()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_bf16_learns_too(method: str, make_job: MakeJob) -> None:
    report = open_trainer().train(make_job(method, precision="bf16", epochs=3), lambda _: None).report
    assert report.best_held_out_loss < 0.7 * report.first_held_out_loss


def stock(method: str, base: Path, folder: Path) -> torch.nn.Module:
    """What stock libraries make of the result."""
    if method == "full":
        return AutoModelForCausalLM.from_pretrained(folder)
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_stock_libraries_load_the_result_to_the_best_held_out_loss(method: str, make_job: MakeJob, train_whole: TrainWhole) -> None:
    job = make_job(method)
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


def adapted(base: Path) -> tuple[Learner, dict[str, torch.nn.Parameter]]:
    torch.manual_seed(1)
    learner = Learner(read_model(base, torch.float32, CPU), settings(), base)
    return learner, METHODS["lora"].prepare(learner)


def test_a_fresh_adapter_changes_nothing(tiny_base: Path) -> None:
    learner, parameters = adapted(tiny_base)
    untouched = AutoModelForCausalLM.from_pretrained(tiny_base)
    with torch.no_grad():
        torch.testing.assert_close(learner.model(IDS).logits, untouched(IDS).logits, rtol=1e-5, atol=1e-5)
    assert all(bool((p == 0).all()) is name.endswith(".B") for name, p in parameters.items())
    assert len(parameters) == 2 * 7 * 2


def test_gradients_are_those_of_peft(tiny_base: Path, rows: list[TokenizedRow]) -> None:
    learner, parameters = adapted(tiny_base)
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base), LoraConfig(r=4, lora_alpha=8, target_modules=list(ALL_LINEAR), lora_dropout=0.0)
    )
    theirs = dict(peft.named_parameters())
    pairs = {}
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith(".B"):
                parameter.normal_(std=0.1)
            path, _, side = name.rpartition(".")
            pairs[name] = theirs[f"base_model.model.{path}.lora_{side}.default.weight"]
            pairs[name].copy_(parameter)
    Network(learner.model, "fp32").loss_sum(pack(rows, torch.float32, CPU)).backward()
    for row in rows:
        ids = torch.tensor([row.ids])
        logits = peft(ids[:, :-1]).logits[0, row.prompt - 1 :]
        torch.nn.functional.cross_entropy(logits, ids[0, row.prompt :], reduction="sum").backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert pairs[name].grad is not None
        assert (parameter.grad - pairs[name].grad).norm() < 1e-4 * pairs[name].grad.norm(), name


def test_bias_of_an_adapted_layer_is_kept() -> None:
    linear = torch.nn.Linear(6, 5)
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(LoraLinear(linear, 2, 1.0)(x), linear(x))


def test_the_adapter_config_names_no_path(make_job: MakeJob) -> None:
    folder = open_trainer().train(make_job(epochs=1), lambda _: None).folder
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] is None
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (4, 8, sorted(ALL_LINEAR))
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(
    ("lora", "code", "says"),
    [
        (LoraSettings(rank=33, alpha=8, targets=("q_proj",)), "adapter_invalid", "hidden size, 32"),
        (LoraSettings(rank=0, alpha=8, targets=("q_proj",)), "adapter_invalid", "rank 0"),
        (LoraSettings(rank=4, alpha=8, targets=("q_proj", "qate_proj")), "adapter_invalid", "qate_proj"),
        (LoraSettings(rank=4, alpha=8, targets=("lm_head",)), "adapter_invalid", "lm_head"),
        (LoraSettings(rank=4, alpha=8, targets=()), "adapter_invalid", "target layers"),
        (None, "adapter_invalid", "rank"),
    ],
)
def test_adapter_settings_that_do_not_fit_are_refused(lora: LoraSettings | None, code: str, says: str, make_job: MakeJob) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        open_trainer().train(make_job(lora=lora), lambda _: None)
    assert caught.value.error_code == code


def test_an_unknown_target_gets_the_nearest_name(make_job: MakeJob) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_trainer().train(make_job(lora=LoraSettings(rank=4, alpha=8, targets=("qate_proj",))), lambda _: None)
    assert caught.value.hint == "did you mean gate_proj?"
