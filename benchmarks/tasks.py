"""The measured work as tasks of ours: one YAML text per workload, with the name of its hand-written twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.model import FAST, SLOW

CHAIN_STEPS = 10


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work in both forms.

    Attributes:
        task: YAML text of our task.
        twin: Workflow type of the hand-written form.
        given: Input of the task.
        twin_given: Input of the twin.
    """

    task: str
    twin: str
    given: Any
    twin_given: dict[str, Any]


TEXT = "Tell me something about foxes and dogs."


def chain(model: str = FAST, steps: int = CHAIN_STEPS) -> Job:
    """W1: LLM steps in a row, each with the reply of the one before."""
    lines = [
        f'  - prompt: "Step {number}: {{{{ _ }}}}"\n    model: {model}\n    unwrap: true' for number in range(steps)
    ]
    return Job("name: chain\nmain:\n" + "\n".join(lines), "HandChain", TEXT, {"model": model, "text": TEXT, "n": steps})


def pair(model: str) -> Job:
    """W2: LLM, a pure step, LLM."""
    task = f"""
name: pair
main:
  - prompt: "First: {{{{ _ }}}}"
    model: {model}
    unwrap: true
  - evaluate: {{words: $ len(_.split()), text: $ _.upper()}}
  - prompt: "In {{{{ _.words }}}} words: {{{{ _.text }}}}"
    model: {model}
    unwrap: true
"""
    return Job(task, "HandPair", TEXT, {"model": model, "text": TEXT})


def fan(items: int) -> Job:
    """W3: a map of LLM calls, 20 at a time, then a fold."""
    task = f"""
name: fan
main:
  - over: $ range({items})
    parallelism: 20
    map:
      prompt: "Item {{{{ _ }}}}"
      model: {SLOW}
      unwrap: true
    initial: 0
    reduce: $ results + len(_)
"""
    return Job(task, "HandFan", None, {"model": SLOW, "text": "", "n": items})


def pure(steps: int) -> Job:
    """W4: pure steps, each written out; inline Python in the twin."""
    lines = "\n".join("  - evaluate: {n: $ _.n + 1}" for _ in range(steps))
    return Job(f"name: pure\nmain:\n{lines}", "HandPure", {"n": 0}, {"model": "", "text": "", "n": steps})


def single() -> Job:
    """W5: one LLM step."""
    return chain(FAST, 1)


def herd(rounds: int, calls: int) -> Job:
    """The herd: rounds of a tool call make a long history; then a gate, one call, a gate, and more calls."""
    task = f"""
name: herd
main:
  - foreach:
      in: $ range({rounds})
      do: {{tool: note, arguments: {{n: $ _}}}}
  - wait_for_input: {{info: warm}}
  - prompt: "Warm"
    model: {FAST}
    unwrap: true
  - wait_for_input: {{info: go}}
  - foreach:
      in: $ range({calls})
      do:
        prompt: "Call {{{{ _ }}}}"
        model: {SLOW}
        unwrap: true
"""
    return Job(task, "HandHerd", None, {"model": SLOW, "text": "", "n": rounds, "calls": calls})
