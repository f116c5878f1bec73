"""Training of adapters, full weights and encoders: one loop for every method. Beside inference the only package with torch.

In: training jobs (examples, a prompt, resolved settings, a base model's folder). Out: a folder with an adapter or weights, and a report.
Must not know: why this job was chosen, tenants, releases.

    trainer > tokenization > preflight > network + methods > loop (batches > network > loss > optimiser; validation; checkpoints) > report
    trainer > ranking: encoders   > process_launch, process_group: several processes   > step_timing: for the planner   > merge_export
"""

from tailorbird.ports.trainer import Trainer
from tailorbird.system.process import limit_primitive_cache

__all__ = ["open_trainer"]


def open_trainer(processes: int = 1) -> Trainer:
    """The trainer of this process; a job is trained by ``processes`` together, 0 for one on each CUDA device. Nothing is read yet."""
    from tailorbird.training.trainer import TorchTrainer  # the engine asks this package for its device alone

    limit_primitive_cache()
    return TorchTrainer(processes)
