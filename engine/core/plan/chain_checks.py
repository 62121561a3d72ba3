"""Checks the jumps of a contenox chain: tasks that nothing leads to, branches that cannot be taken. Workflow-safe."""

from __future__ import annotations

from engine.core.diagnostics import Findings, Position
from engine.core.plan.chain_values import matches, results_of
from engine.core.spec import codes
from engine.core.spec.dialects.contenox import BranchSpec, ChainSpec, ChainTaskSpec, Handler, Operator

NUMERIC = (Operator.GT, Operator.LT, Operator.IN_RANGE)


def check_chain(spec: ChainSpec, findings: Findings) -> None:
    """Report ids that stand twice, and tasks that no jump leads to."""
    seen: dict[str, Position] = {}
    for task in spec.tasks:
        first = seen.setdefault(task.id.text, task.id.position)
        if first is not task.id.position:
            findings.error(
                codes.DUPLICATE_LABEL,
                f"the id '{task.id.text[:60]}' stands twice in the chain; first at line {first.line}",
                task.id.position,
                path=f"{task.path}.id",
                hint="give one of the tasks another id",
            )
    reached = _reached(spec)
    for number, task in enumerate(spec.tasks):
        if number and task.id.text and task.id.text not in reached:
            message = f"no branch leads to the task '{task.id.text[:60]}'"
            findings.warn(codes.UNREACHABLE, message, task.id.position, path=task.path)


def _reached(spec: ChainSpec) -> set[str]:
    by_id: dict[str, ChainTaskSpec] = {}
    for task in spec.tasks:
        by_id.setdefault(task.id.text, task)
    reached: set[str] = set()
    waiting = [spec.tasks[0].id.text] if spec.tasks else []
    while waiting:
        name = waiting.pop()
        if name in reached or name not in by_id:
            continue
        reached.add(name)
        task = by_id[name]
        waiting.extend(branch.goto.text for branch in task.branches)
        if task.on_failure is not None:
            waiting.append(task.on_failure.text)
    return reached


def check_branches(task: ChainTaskSpec, findings: Findings) -> None:
    """Warn about branches of a task that can never be taken, and about results for which none is left."""
    if task.handler is Handler.RAISE_ERROR:
        if task.branches:
            first = task.branches[0]
            _dead(first, "the task always fails, so none of its branches is taken", "use `on_failure`", findings)
        return
    results = results_of(task)
    default_seen = False
    for branch in task.branches:
        if branch.operator is Operator.DEFAULT:
            if default_seen:
                _dead(branch, "an earlier branch is the default already", "", findings)
            default_seen = True
        elif results and not any(matches(branch, word) for word in results):
            listing = " or ".join(results)
            _dead(branch, f"the result of '{task.handler}' is {listing}, never this", _remedy(task, branch), findings)
    left = [word for word in results if not any(matches(branch, word) for branch in task.branches)]
    if default_seen or (results and not left):
        return
    what = f"the result {left[0]}" if left else "a result that no branch takes"
    findings.warn(
        codes.DEAD_BRANCH,
        f"the task '{task.id.text[:60]}' has no branch for {what}; the chain fails there",
        task.position,
        path=f"{task.path}.transition",
        hint="add `{operator: default, goto: end}`",
    )


def _remedy(task: ChainTaskSpec, branch: BranchSpec) -> str:
    if task.handler is Handler.CONDITION_KEY and branch.when.text in task.valid_conditions:
        word = "true" if task.valid_conditions[branch.when.text] else "false"
        return f"compare with what the key means: `when: '{word}'`"
    return "compare the text of another handler" if branch.operator in NUMERIC else ""


def _dead(branch: BranchSpec, why: str, hint: str, findings: Findings) -> None:
    findings.warn(codes.DEAD_BRANCH, f"the branch is never taken: {why}", branch.position, path=branch.path, hint=hint)
