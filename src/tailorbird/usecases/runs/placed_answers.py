"""What a node does that helps: it answers parts of the items of a step that another node does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from tailorbird.domain.ladder import Candidate, Making
from tailorbird.domain.run import OPEN
from tailorbird.usecases.climb.answer_parts import GivenAnswers, Helper, answer_parts
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.runs.step_placement import HelpTask, takes_next_help
from tailorbird.usecases.runs.step_runner import stage_of
from tailorbird.usecases.steps.step_context import StepContext
from tailorbird.usecases.storage_quota import storing


def help_placed(deps: Dependencies, actor: Actor, task: HelpTask, progress: Progress) -> int:
    """Answers parts of the items of the step that ``task`` names, until none is left or wanted; how many. It holds no lease: what it leaves
    is taken or asked again by who does. Raises as the engine and the store do."""
    deps = deps.for_tenant(actor.tenant)
    context = _context_of(deps, actor, task, progress)
    making = task.step.replace("measure ", "make ", 1)
    if making not in context.done or task.step in context.done:
        return 0
    digest = context.result(Making, making).candidate
    if digest is None:
        return 0
    with storing(deps, actor.tenant) as store:
        own = replace(context, deps=replace(deps, artifacts=store))
        others, node = GivenAnswers(own, task.step, digest, store.account), Helper(task.number, task.among)
        return answer_parts(own, own.record(Candidate, digest), others, node)


def goes_on_aside(deps: Dependencies, actor: Actor, task: HelpTask) -> bool:
    """Whether this process may help the run once more; not where the record does not say so. The help is given by then: whatever goes wrong
    here is no fault of it."""
    with suppress(Exception):
        context = _context_of(deps, actor, task, Progress())
        with context.deps.ledger.work(actor.tenant, write=False) as work:
            open_still = work.runs.get(task.run).state in OPEN
        return open_still and takes_next_help(context.plan, tuple(context.done))
    return False


def _context_of(deps: Dependencies, actor: Actor, task: HelpTask, progress: Progress) -> StepContext:
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = work.runs.get(task.run)
    return stage_of(deps, actor, found, progress)
