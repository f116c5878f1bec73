"""What plans are made from in tests: bases, a machine, a snapshot, an objective."""

from __future__ import annotations

from typing import Any

from support.release import manifest as a_manifest
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest, SplitCounts
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Machine, PlannedComparison, Power, Prices, Reason, TokenProfile
from tailorbird.planning import PlanInputs

D = digest_bytes(b"x")
LABELS = {f"label-{i:02}": SplitCounts(train=40, dev=15, test=15) for i in range(12)}


def llama(hidden: int, layers: int, intermediate: int, keys: int, **shape: int) -> BaseModelRef:
    linear = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, intermediate),
        "up_proj": (hidden, intermediate),
        "down_proj": (intermediate, hidden),
    }
    known: dict[str, Any] = {"digest": D, "tokenizer_digest": D, "chat_template_digest": D, "license": "Apache-2.0", "context": 8192}
    return BaseModelRef(
        name="m", hidden=hidden, layers=layers, intermediate=intermediate, linear_shapes=linear, **(known | {"vocabulary": 49152} | shape)
    )


SMALL = llama(576, 30, 1536, 192, parameters=134_515_008)
MACHINE = Machine(cores=2, memory_gb=24.0, fp32_gflops=146.0, bf16_gflops=435.0, fast_bf16=True)
TOKENS = TokenProfile(
    shared_prefix=24, prompt_mean=42.0, prompt_p95=60, prompt_max=92, target_mean=4.0, target_max=7, label_trie=35, label_list=35
)


def manifest(train: int = 480, dev: int = 180, labels: dict[str, SplitCounts] = LABELS) -> SnapshotManifest:
    counts = SplitCounts(train=train, dev=dev, test=dev)
    made = {"objective": "intents", "read": train + 2 * dev, "counts": counts, "label_counts": labels, "near_duplicate_groups": 0}
    return a_manifest().model_copy(update=made | {"text_length_p95": 200, "text_length_max": 400})


def objective(**changes: Any) -> Objective:
    return Objective.model_validate(
        {
            "name": "intents",
            "tenant": "acme",
            "business": {"goal": "g", "owner": "o", "risk": "limited"},
            "task": {"kind": "classify", "instruction": "Classify."},
            "data": [{"path": "d.csv", "source": {"origin": "o", "license": "l"}}],
            "kpis": [{"metric": "accuracy", "target": 0.9}],
        }
        | changes
    )


COMPARISON = PlannedComparison(
    metric="accuracy",
    margin=0.02,
    unit="",
    dev_smallest=0.1,
    test_smallest=0.1,
    reason=Reason(rule="compare_on", text="the first KPI", source="docs"),
)
POWER = Power(kpi="accuracy", target=0.9, n=180, must_observe=0.94, provable=True)


def inputs(**changes: Any) -> PlanInputs:
    defaults: dict[str, Any] = {
        "objective": objective(),
        "objective_digest": D,
        "snapshot": D,
        "manifest": manifest(),
        "base": SMALL,
        "machine": MACHINE,
        "tokens": TOKENS,
        "prices": Prices(),
        "dev_power": (POWER,),
        "test_power": (),
        "comparison": COMPARISON,
    }
    return PlanInputs(**(defaults | changes))


#: Eight billion weights in bf16 can be asked in 24 GiB, but not trained on.
LARGE = llama(4096, 32, 14336, 1024, parameters=8_030_261_248, vocabulary=128_256)
