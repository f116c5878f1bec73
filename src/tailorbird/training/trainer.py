"""Fingerprint of the code that a training runs through, and the versions of libraries.

Torch trainer: from a job to a trained model and its report.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError

from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.decoders import context_of
from tailorbird.domain.errors import Conflict, Exhausted
from tailorbird.domain.plan import Calibration, Examination, Machine, PassLayout
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.trainer import EncoderJob, Job, LabelJob, Merged, MergeJob, ReportProgress, TrainedModel, TrainingJob
from tailorbird.system.files import private_folder
from tailorbird.system.machine import PeakMemory, resident_gib, return_growth
from tailorbird.training.batches import RowTokenizer
from tailorbird.training.checkpoints import CheckpointOrigin, Checkpoints, LoopState
from tailorbird.training.devices import computing_threads, gpu_count, gpu_name, pick_device
from tailorbird.training.encoder import tune_averaged
from tailorbird.training.encoder import tune_labels as tune_labels
from tailorbird.training.encoder import tune_ranking as tune_ranking
from tailorbird.training.loop import Loop, Optimiser, TrainingCourse
from tailorbird.training.merge_export import merge
from tailorbird.training.methods import METHODS, Learner, Method
from tailorbird.training.network import TYPES, Network, row_layout
from tailorbird.training.preflight import check_job, check_lengths, check_packing, examine
from tailorbird.training.process_group import ProcessGroup, train_together
from tailorbird.training.timing import calibrate, cpu_capability, measure_machine

#: Libraries that compute, or that turn text into tokens.
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "jinja2", "bitsandbytes")
_PACKAGE = Path(__file__).parent.parent
#: Where the code stands that decides a training's steps.
_ROOMS = ("domain", "text", "chat", "training")
_MODULES = ("decoders.py", "base_models/adapter_format.py", "base_models/encoder_vectors.py")


def versions() -> dict[str, str]:
    """The version of each library that is installed."""
    return {name: found for name in _LIBRARIES if (found := _version(name))}


@cache
def code_digest() -> Digest:
    """Of ``_MODULES``, all modules of ``_ROOMS``, and of the libraries' versions."""
    found = hashlib.sha256(repr(sorted(versions().items())).encode())
    own = (_PACKAGE / name for name in _MODULES)
    for path in sorted((*own, *(path for room in _ROOMS for path in (_PACKAGE / room).rglob("*.py")))):
        found.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return "sha256:" + found.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


class TorchTrainer:
    """A ``Trainer`` on torch, in this process, on the first CUDA device or the CPU; in several, where there is more than one device.

    ``processes``: how many train a job together; 0 is one for each CUDA device.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        """As ``Trainer.train``; a job that was interrupted goes on from its newest checkpoint to the same bytes.

        Raises InvalidInput (``no_train_rows``, ``answer_empty``, ``example_too_long``, ``adapter_invalid``,
        ``workspace_unwritable``), ModelInvalid, Conflict (``checkpoint_foreign``) and Exhausted (``memory``, ``disk_full``).
        """
        processes = self._processes or gpu_count()
        if processes > 1:
            return train_together(job, report, processes)
        try:
            with computing_threads(_threads(job)), _leaving_nothing(), _telling_full_disks():
                check_job(job)
                mark = PeakMemory()
                method, team = METHODS[job.settings.method], ProcessGroup()
                checkpoints = Checkpoints(job.workspace, _origin(job), clears=team.leads)
                course = _encode(job)
                # Before anything is drawn, so that the same seed gives the same adapters.
                torch.manual_seed(job.settings.seed)
                network, learner, parameters = _read(job, method, course, team)
                optimiser = Optimiser(parameters, job.settings, team=team)
                loop = Loop(network, optimiser, course, checkpoints, report)
                state = loop.run()
                if team.leads:
                    _take_best(parameters, checkpoints, state)
                folder = _save(method, learner, job.results or job.workspace, team)
                trained = sum(parameter.numel() for parameter in parameters.values())
                found = _report(job, state, trained, network)
                # A training that was resumed took what its hungriest process took.
                highest = max(mark.gib, state.process_memory_gb)
                measured = {
                    "grown_memory_gb": max(0.0, highest - mark.start),
                    "process_memory_gb": highest,
                    "plateau": loop.plateau.told(state),
                }
                return TrainedModel(folder=folder, report=found.model_copy(update=measured))
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _out_of_memory() from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise _out_of_memory() from error
            raise

    def fingerprint(self, job: Job) -> Digest:
        """As ``Trainer.fingerprint``. ``waiting_epochs`` change nothing of a run that does not wait; whoever compares must look at them."""
        device = pick_device()
        settings = job.settings.model_copy(update={"waiting_epochs": 0})
        return digest_of(
            {
                "job": fingerprint(job.model_copy(update={"settings": settings, "snapshot": ""})),
                "code": code_digest(),
                "device": gpu_name(device) or f"{platform.machine()} {cpu_capability()}",
                "processes": self._processes or gpu_count(),
                "threads": job.settings.threads or torch.get_num_threads(),
            }
        )

    def calibrate(self, job: TrainingJob, machine: str, efficiency: float = 0.0) -> Calibration:
        """As ``Trainer.calibrate``."""
        try:
            with _leaving_nothing():
                return calibrate(job, machine, efficiency)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _out_of_memory() from error

    def tune(self, job: EncoderJob, report: ReportProgress) -> TrainedModel:
        """As ``Trainer.tune``. Where several encoders are averaged, those that were finished are not tuned again."""
        with computing_threads(job.settings.threads), _leaving_nothing(), _telling_full_disks():
            if not isinstance(job, LabelJob):
                return tune_ranking(job, report)
            return tune_averaged(job, report, self.fingerprint(job)) if job.parts else tune_labels(job, report)

    def examine(self, job: TrainingJob) -> Examination:
        """As ``Trainer.examine``."""
        with _leaving_nothing():
            return examine(job)

    def merge(self, job: MergeJob) -> Merged:
        """As ``Trainer.merge``."""
        with _leaving_nothing():
            return merge(job)

    def row_layout(self, source: Path, longest: int) -> PassLayout:
        """As ``Trainer.row_layout``."""
        with _leaving_nothing():
            return row_layout(source, longest)

    def measure_machine(self) -> Machine:
        """As ``Trainer.measure_machine``."""
        return measure_machine()


@contextmanager
def _leaving_nothing() -> Iterator[None]:
    """Returns the memory of the models that were read within the block to the system: the next one is read into the same process."""
    before = resident_gib()
    try:
        yield
    finally:
        return_growth(before)


@contextmanager
def _telling_full_disks() -> Iterator[None]:
    """Raises Exhausted (``disk_full``) in place of what a full disk raises."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if _is_full(error):
            raise Exhausted(
                "the disk is full", "free space where the workspace lies, then start again: the run goes on", code="disk_full"
            ) from error
        raise


def _threads(job: TrainingJob) -> int:
    """This process's share of the threads that the settings name."""
    return max(1, job.settings.threads // ProcessGroup().size) if job.settings.threads else 0


def _is_full(error: OSError | SafetensorError) -> bool:
    """Safetensors writes past Python, and tells the number of the system's error in words alone."""
    return getattr(error, "errno", None) == errno.ENOSPC or f"(os error {errno.ENOSPC})" in str(error)


def fingerprint(job: Job) -> Digest:
    """Names everything that the trained bytes depend on, the code aside."""
    return digest_of({k: v for k, v in plain_json(job).items() if k not in ("base", "index", "workspace", "seal_key", "results")})


def _origin(job: TrainingJob) -> CheckpointOrigin:
    return CheckpointOrigin(job=fingerprint(job), code=code_digest(), seal_key=job.seal_key)


def _encode(job: TrainingJob) -> TrainingCourse:
    encoder = RowTokenizer(job.base, thinking=job.prompt.thinking)
    train, held_out = encoder.encode(job.prompt, job.train), encoder.encode(job.prompt, job.held_out)
    course = TrainingCourse(train, held_out, job.settings, labels=bool(job.prompt.answers))
    check_lengths([*course.train, *course.held_out], job.settings.max_length)
    return course


def _read(
    job: TrainingJob, method: Method, course: TrainingCourse, team: ProcessGroup
) -> tuple[Network, Learner, dict[str, torch.nn.Parameter]]:
    """The network, what the method works on, and what is trained."""
    model = method.read(job.base, TYPES["fp32" if method.master_weights else job.settings.precision], pick_device())
    rows = [*course.train, *course.held_out]
    check_lengths(rows, context_of(model.config) or job.settings.max_length)
    learner = Learner(model, job.settings, job.base)
    method.check(learner)
    network = Network(model, job.settings.precision, team)
    network.settle(rows)
    check_packing(network, course.train)
    parameters = method.prepare(learner)
    return network, learner, parameters


@torch.no_grad()
def _take_best(parameters: dict[str, torch.nn.Parameter], checkpoints: Checkpoints, state: LoopState) -> None:
    """Best weights lie on the disk alone: a copy in memory would cost full fine-tuning a quarter of all it takes."""
    best = checkpoints.best(state.best_step)
    if best is None:
        raise Conflict(
            "the best weights were changed on the disk while the run went on",
            "see that nothing else writes to the workspace, then start again: the run goes on from an older checkpoint",
            code="checkpoint_foreign",
        )
    for name, parameter in parameters.items():
        parameter.copy_(best[name])


def _save(method: Method, learner: Learner, workspace: Path, team: ProcessGroup) -> Path:
    """Writes the result beside its place and renames it, so that a folder named ``model`` is always whole; all processes then see it."""
    place = workspace / "model"
    if team.leads:
        _write(method, learner, workspace / ".new-model", place)
    team.any(True, learner.model.device)
    return place


def _write(method: Method, learner: Learner, new: Path, place: Path) -> None:
    shutil.rmtree(new, ignore_errors=True)
    private_folder(new)
    method.save(learner, new)
    shutil.rmtree(place, ignore_errors=True)
    new.replace(place)


def _report(job: TrainingJob, state: LoopState, trained: int, network: Network) -> TrainingReport:
    return TrainingReport(
        settings=digest_of(job.settings),
        snapshot=job.snapshot,
        base_model=job.base_digest,
        steps=state.step,
        best_step=state.best_step,
        best_held_out_loss=state.best_held_out_loss or 0.0,
        first_held_out_loss=state.first_held_out_loss or 0.0,
        history=state.history,
        trained_parameters=trained,
        tokens=state.tokens,
        loss_tokens=state.loss_tokens,
        seconds=state.seconds,
        peak_memory_gb=state.peak_memory_gb,
        flops=state.flops,
        stopped_early=state.stopped_early,
        environment=_environment(job, network),
    )


def _environment(job: TrainingJob, network: Network) -> dict[str, str]:
    return (
        versions()
        | {
            "code": code_digest(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": gpu_name(network.device) or platform.machine(),
            "processes": str(network.team.size),
            "threads": str(torch.get_num_threads()),
            "cores": str(os.cpu_count()),
            "precision": job.settings.precision,
            "seed": str(job.settings.seed),
        }
        | network.pass_told
    )


def _out_of_memory() -> Exhausted:
    return Exhausted(
        "training does not fit into memory",
        "lower token_budget (the result stays the same), or choose lora instead of full",
        code="memory",
    )
