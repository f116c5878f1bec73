"""Steps of a run in a process that a cluster started: what each task names, by the settings that lie on this machine.

Libraries, models and the connections to the record stay for the next step, where the cluster keeps the process for one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tailorbird import wiring
from tailorbird.domain.compute import TaskEnd
from tailorbird.domain.errors import Forbidden, Internal, InvalidInput, NotFound, TailorbirdError
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest
from tailorbird.settings import Settings, find_workspace, load_settings
from tailorbird.system.build import build_name
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure.local_copies import follow_erasures
from tailorbird.usecases.identities import known_identity
from tailorbird.usecases.runs.step_placement import StepAnswer, StepFault, StepTask
from tailorbird.usecases.runs.step_runner import goes_on_placed, perform_placed


def perform_step(task: str) -> TaskEnd:
    """Does the step that ``task`` names (the JSON of a StepTask), and answers with the JSON of a StepAnswer. The process may be kept where
    the run goes on, and what it holds by now is no more than its next step takes.

    Nothing is raised but interruptions: what a cluster keeps and shows of an error could hold a row's text.
    """
    keeps = False
    try:
        keeps = _perform(StepTask.model_validate_json(task))
    except TailorbirdError as error:
        return TaskEnd(StepAnswer(fault=StepFault.of(error)).model_dump_json())
    except Exception as error:  # noqa: BLE001 - see above
        hint = "adapt again: it goes on where it stopped; if it breaks off again, report it with the version"
        return TaskEnd(StepAnswer(fault=StepFault.of(Internal(f"it broke off with {type(error).__name__}", hint))).model_dump_json())
    finally:
        if not keeps:
            _Opened.close()
    return TaskEnd(StepAnswer().model_dump_json(), keeps)


def _perform(task: StepTask) -> bool:
    """Whether the next step of the run may be done in this process."""
    _compute_with(task.cores)
    deps = _Opened.by(_settings_for(task))
    with _following_erasures(deps):
        actor, here = _keyless(deps, task), replace(deps, compute=lambda: None)
        perform_placed(here, actor, task, Progress())
        return goes_on_placed(here, actor, task)


class _Opened:
    """What this process has open, by which settings: models stay loaded from one step to the next, as they do without a cluster."""

    settings: Settings | None = None
    deps: Dependencies | None = None

    @classmethod
    def by(cls, settings: Settings) -> Dependencies:
        """What is open, by the same settings; else opened anew."""
        if cls.deps is None or cls.settings != settings:
            cls.close()
            cls.deps = wiring.open_dependencies(settings, migrate=False)
            cls.settings = settings
        return cls.deps

    @classmethod
    def close(cls) -> None:
        """Nothing is open any more."""
        deps, cls.deps, cls.settings = cls.deps, None, None
        if deps is not None:
            deps.ledger.close()


@contextmanager
def _following_erasures(deps: Dependencies) -> Iterator[None]:
    """What was erased elsewhere goes here before the step, which is not done otherwise, and after it: no schedule runs on a node. Raises
    Unavailable."""
    follow_erasures(deps)
    try:
        yield
    finally:
        with suppress(TailorbirdError):
            follow_erasures(deps)


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
