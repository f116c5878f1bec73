"""Every method with every option, by the same tests: a new one joins by itself."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from support.training_samples import ALL_LINEAR, MakeJob, TrainWhole, adapters, settings, variants
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.plan import LoraSettings
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainedModel, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.batches import TokenizedRow, pack
from tailorbird.training.loop import Flops
from tailorbird.training.methods import METHODS, Learner, QloraLinear, adapted_layers, quantised
from tailorbird.training.network import Network

pytestmark = [
    #: PEFT asks transformers by an old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

CPU = torch.device("cpu")
IDS = torch.tensor([[1, 9690, 198, 2683, 359, 253, 44, 700]])
WITH_ADAPTER = [variant for variant in variants() if variant[1] != "none"]


def make(make_job: MakeJob, variant: tuple[str, str], **changes: object) -> TrainingJob:
    method, name = variant
    return make_job(method, **({"lora": adapters()[name]} if name != "none" else {}), **changes)


def weights(trained: TrainedModel) -> str:
    (path,) = trained.folder.glob("*.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def learner(base: Path, method: str, lora: LoraSettings | None, dtype: torch.dtype = torch.float32) -> Learner:
    chosen = settings(method, **({"lora": lora} if lora else {}))
    return Learner(METHODS[method].read(base, dtype, CPU), chosen, base)


def prepared(base: Path, method: str, lora: LoraSettings | None) -> tuple[Network, dict[str, torch.nn.Parameter]]:
    """A model with adapters that already change something."""
    torch.manual_seed(3)
    made = learner(base, method, lora)
    parameters = METHODS[method].prepare(made)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith(".B"):
                parameter.normal_(std=0.1)
    return Network(made.model, "fp32"), parameters


@pytest.mark.parametrize("variant", variants(), ids="-".join)
def test_it_learns_and_ends_in_the_same_bytes_after_an_interruption(
    variant: tuple[str, str], make_job: MakeJob, train_whole: TrainWhole
) -> None:
    whole = train_whole(make(make_job, variant))
    assert whole.report.best_held_out_loss < 0.8 * whole.report.first_held_out_loss

    def interrupt(line: TrainingProgress) -> None:
        if line.step == whole.report.steps // 2:
            raise KeyboardInterrupt

    job = make(make_job, variant, workspace="interrupted")
    with pytest.raises(KeyboardInterrupt):
        open_trainer().train(job, interrupt)
    assert weights(open_trainer().train(job, lambda _: None)) == weights(whole)


@pytest.mark.parametrize("variant", variants(), ids="-".join)
def test_packed_rows_have_the_gradients_of_plain_ones(variant: tuple[str, str], tiny_base: Path, rows: list[TokenizedRow]) -> None:
    network, parameters = prepared(tiny_base, variant[0], adapters().get(variant[1]))
    together = network.loss_sum(pack(rows, torch.float32, CPU))
    plain = []
    for row in rows:
        ids = torch.tensor([row.ids])
        logits = network.model(input_ids=ids[:, :-1], use_cache=False).logits[0, row.prompt - 1 :]
        plain.append(torch.nn.functional.cross_entropy(logits, ids[0, row.prompt :], reduction="sum"))
    wanted = list(parameters.values())
    pairs = zip(torch.autograd.grad(together, wanted), torch.autograd.grad(torch.stack(plain).sum(), wanted), parameters, strict=True)
    for ours, theirs, name in pairs:
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm(), name


@pytest.mark.parametrize("variant", WITH_ADAPTER, ids="-".join)
def test_stock_peft_loads_it_to_the_same_logits(variant: tuple[str, str], tiny_base: Path, tmp_path: Path) -> None:
    method, lora = METHODS[variant[0]], adapters()[variant[1]]
    network, _ = prepared(tiny_base, variant[0], lora)
    method.save(Learner(network.model, settings(variant[0], lora=lora), tiny_base), tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    if variant[0] == "qlora":
        _lay_dequantised(network, base)
    theirs = PeftModel.from_pretrained(base, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(network.model(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-4)


def _lay_dequantised(network: Network, base: torch.nn.Module) -> None:
    """Gives ``base`` the weights that the quantised ones stand for."""
    for path, layer in adapted_layers(network.model).items():
        base.get_submodule(path).weight.data = layer.frozen()


@pytest.mark.parametrize("name", adapters())
def test_gradients_are_those_of_peft(name: str, tiny_base: Path, rows: list[TokenizedRow]) -> None:
    lora = adapters()[name]
    network, parameters = prepared(tiny_base, "lora", lora)
    stock = LoraConfig(r=4, lora_alpha=8, target_modules=list(ALL_LINEAR), use_rslora=lora.rslora)
    peft = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), stock)
    theirs = dict(peft.named_parameters())
    pairs = {}
    for path, parameter in parameters.items():
        place, _, side = path.rpartition(".")
        pairs[path] = theirs[f"base_model.model.{place}.lora_{side}.default.weight"]
        pairs[path].data.copy_(parameter.detach())
    network.loss_sum(pack(rows, torch.float32, CPU)).backward()
    for row in rows:
        ids = torch.tensor([row.ids])
        logits = peft(ids[:, :-1]).logits[0, row.prompt - 1 :]
        torch.nn.functional.cross_entropy(logits, ids[0, row.prompt :], reduction="sum").backward()
    for path, parameter in parameters.items():
        assert parameter.grad is not None
        assert pairs[path].grad is not None
        assert (parameter.grad - pairs[path].grad).norm() < 1e-4 * pairs[path].grad.norm(), path


# --- four bits --------------------------------------------------------------------------------------------------------------------------


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


def test_reading_quantises_as_the_layer_would(tiny_base: Path) -> None:
    read = learner(tiny_base, "qlora", None)
    plain = AutoModelForCausalLM.from_pretrained(tiny_base)
    METHODS["qlora"].prepare(read)
    layers = adapted_layers(read.model)
    assert len(layers) == 14
    for path, layer in layers.items():
        assert torch.equal(layer.frozen(), quantised(plain.get_submodule(path)).dequantised())


def test_layers_that_are_not_adapted_are_quantised_too_and_keep_their_bits(
    make_job: MakeJob, tiny_base: Path, rows: list[TokenizedRow]
) -> None:
    some = LoraSettings(rank=4, alpha=8, targets=("q_proj", "down_proj"))
    network, parameters = prepared(tiny_base, "qlora", some)
    layer = network.model.model.layers[1].mlp.gate_proj
    before = layer.dequantised()
    assert before.shape == (48, 32)
    plain = network.plain_loss_sum(rows[0])
    loss = network.loss_sum(pack(rows[:1], torch.float32, CPU))
    assert loss.item() == pytest.approx(plain, rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters.values())
    assert torch.equal(layer.dequantised(), before)
    open_trainer().train(make_job("qlora", lora=some, epochs=1), lambda _: None)


def test_four_bits_take_an_eighth_of_the_memory_and_cost_the_same_flops(tiny_base: Path, rows: list[TokenizedRow]) -> None:
    found = {}
    for method in ("lora", "qlora"):
        made = learner(tiny_base, method, None)
        METHODS[method].prepare(made)
        frozen = sum(layer.linear.weight.nbytes for layer in adapted_layers(made.model).values())
        found[method] = frozen, Flops(made.model).of(pack(rows, torch.float32, CPU))
    assert found["qlora"][0] == found["lora"][0] / 8
    assert found["qlora"][1] == found["lora"][1]


@pytest.fixture
def without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from tailorbird.training import methods as method

    monkeypatch.setattr(method, "find_spec", lambda name: None)
    yield
    assert "bitsandbytes" in sys.modules


@pytest.mark.usefixtures("without_bitsandbytes")
def test_without_bitsandbytes_it_is_refused_with_what_to_install(make_job: MakeJob) -> None:
    with pytest.raises(Unavailable, match="bitsandbytes") as caught:
        open_trainer().train(make_job("qlora"), lambda _: None)
    assert caught.value.error_code == "package_missing"
    (finding,) = open_trainer().examine(make_job("qlora")).findings
    assert finding.code == "package_missing"


def test_bf16_dequantises_to_bf16(make_job: MakeJob) -> None:
    report = open_trainer().train(make_job("qlora", precision="bf16", epochs=3), lambda _: None).report
    assert report.best_held_out_loss < 0.8 * report.first_held_out_loss
    assert math.isfinite(report.flops)
