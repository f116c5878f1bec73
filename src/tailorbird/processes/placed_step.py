"""Steps of a run in a process that a cluster started: what its task names, by the settings that lie on this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from tailorbird import wiring
from tailorbird.domain.errors import Forbidden, Internal, InvalidInput, NotFound, TailorbirdError
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest
from tailorbird.settings import Settings, find_workspace, load_settings
from tailorbird.system.build import build_name
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import known_identity
from tailorbird.usecases.runs.step_placement import StepAnswer, StepFault, StepTask
from tailorbird.usecases.runs.step_runner import perform_placed


def perform_step(task: str) -> str:
    """Does the step that ``task`` names (the JSON of a StepTask), goes on while steps take no more than is booked, and answers with the
    JSON of a StepAnswer.

    Nothing is raised but interruptions: what a cluster keeps and shows of an error could hold a row's text.
    """
    fault: TailorbirdError | None = None
    try:
        _perform(StepTask.model_validate_json(task))
    except TailorbirdError as error:
        fault = error
    except Exception as error:  # noqa: BLE001 - see above
        hint = "adapt again: it goes on where it stopped; if it breaks off again, report it with the version"
        fault = Internal(f"it broke off with {type(error).__name__}", hint)
    return StepAnswer(fault=StepFault.of(fault) if fault else None).model_dump_json()


def _perform(task: StepTask) -> None:
    _compute_with(task.need.cores)
    deps = wiring.open_dependencies(_settings_for(task), migrate=False)
    try:
        perform_placed(replace(deps, compute=lambda: None), _keyless(deps, task), task, Progress())
    finally:
        deps.ledger.close()


def _compute_with(threads: int) -> None:
    """Has products computed by ``threads``. It must be said before the libraries are loaded that compute."""
    if "torch" not in sys.modules:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _settings_for(task: StepTask) -> Settings:
    """This machine's settings, where they lead to the same results. Raises InvalidInput (``node_differs``), NotFound."""
    if task.version != build_name():
        raise InvalidInput(
            f"this node has tailorbird {build_name()}, and the run was started by {task.version}",
            "install the same build on every node: tailorbird --version tells it",
            code="node_differs",
        )
    try:
        settings = load_settings(find_workspace(Path(task.workspace)))
    except NotFound as error:
        hint = "every node needs the same settings.yaml at the same path: share the folder, or copy the file (docs/scale.md)"
        raise NotFound(f"this node has no workspace at {task.workspace}", hint, code="workspace_missing") from error
    if settings.results_digest != task.settings:
        raise InvalidInput(
            "the settings of this node lead to other results than those of the process that started the run",
            "compare settings.yaml and the variables TAILORBIRD_… of both: engine, training, prices",
            code="node_differs",
        )
    return settings


def _keyless(deps: Dependencies, task: StepTask) -> Actor:
    """Whoever started the run, as the record knows them, without their key: a node signs nothing. Raises NotFound, Forbidden."""
    identity = known_identity(deps, task.tenant, task.actor)

    def refuse(purpose: str, _digest: Digest) -> Signature:
        raise Forbidden(f"a node does not sign ({purpose})", "the process that started the run does", code="node_signs_nothing")

    return Actor(identity, refuse)
