"""What a node does that helps: it answers parts of the items, or curates parts of the rows, of a step that another node does."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from tailorbird import data
from tailorbird.domain.ladder import Candidate, Making
from tailorbird.domain.run import OPEN
from tailorbird.system.source_access import restrict_sources
from tailorbird.usecases.climb.answer_parts import GivenAnswers, Helper, answer_parts
from tailorbird.usecases.climb.snapshot_and_plan import snapshot_request
from tailorbird.usecases.climb.step_parts import StepParts
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.runs.step_placement import HelpTask, takes_next_help
from tailorbird.usecases.runs.step_runner import reach_of_run, stage_of
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext
from tailorbird.usecases.storage_quota import storing


def help_placed(deps: Dependencies, actor: Actor, task: HelpTask, progress: Progress) -> int:
    """Does parts of the step that ``task`` names, until none is left or wanted; how many. It holds no lease: what it leaves is done by who
    does. Raises as the engine, the readers and the store do."""
    deps = deps.for_tenant(actor.tenant)
    context = _context_of(deps, actor, task, progress)
    if task.step == transitions.SNAPSHOT:
        return _curate(context, task)
    making = task.step.replace("measure ", "make ", 1)
    if making not in context.done or task.step in context.done:
        return 0
    digest = context.result(Making, making).candidate
    if digest is None:
        return 0
    with storing(context.deps, actor.tenant) as store:
        own = replace(context, deps=replace(context.deps, artifacts=store))
        others, node = GivenAnswers(own, task.step, digest, store.account), Helper(task.number, task.among)
        return answer_parts(own, own.record(Candidate, digest), others, node)


def _curate(context: StepContext, task: HelpTask) -> int:
    with storing(context.deps, context.run.tenant) as store, restrict_sources(reach_of_run(context)):
        own = replace(context, deps=replace(context.deps, artifacts=store))
        parts, node = StepParts(own, task.step, store.account), Helper(task.number, task.among)
        return data.help_build(snapshot_request(own, parts), node.order)


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
