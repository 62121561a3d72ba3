"""The steps of random programs that hold no others: each turns a number into a number, however it is run."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

MODULUS = 1009
NOBODY = "nobody"
"""What a wait tells that must not be answered."""
PING = "ping"
"""The event that programs wait for, without a key and with `KEY`; any other never comes."""
KEY = "k"
HOLD = "hold"
"""First word of the names of inboxes whose first message lets its turn wait for `STOP`, until the next one stops it."""
STOP = "stop"
"""An event that never comes; its key is the inbox that gets a message in place of it."""
LONG_S = 600
"""What never happens before the test has failed."""
SHORT_S = (0.03, 0.08)

Step = dict[str, Any]


class Leaves:
    """Makes leaves.

    Args:
        chance: Source of all decisions.
        waits: Whether steps may wait for answers and events.
        clock: Whether steps may depend on the clock.
        most_effects: About how many calls, timers and waits there may be.
    """

    def __init__(self, chance: random.Random, *, waits: bool, clock: bool, most_effects: int) -> None:
        self.chance = chance
        self.left = most_effects
        self.waits = False
        self.listens = waits
        self.kinds: set[str] = set()
        self.inboxes: set[str] = set()
        self._labels = 0
        self._leaves: list[Callable[[], list[Step]]] = [
            *(self.pure, self.tool, self.tool, self._retried, self._settled, self._prompt, self._structured),
            *(self._sleep, self._state, self._drawn, self._log, self._skipped, self._labelled, self._raised),
            *(self._checked, self._repaired, self._undone, self._timed_out, self._in_time),
        ]
        if waits:
            self._leaves += [self._wait, self._wait, self._approve, self._event, self._asked, self._unanswered]
        if clock:
            self._leaves += [self._clock, self._hurried]
        if waits and clock:
            self._leaves.append(self._expiring)

    def leaf(self) -> list[Step]:
        """Return the steps of any leaf."""
        return self.chance.choice(self._leaves)()

    def note(self, kind: str, *steps: Step) -> list[Step]:
        """Note what a program is made of and return the steps."""
        self.kinds.add(kind)
        return list(steps)

    def label(self) -> str:
        """Return a label that no other step has."""
        self._labels += 1
        return f"l{self._labels}"

    # --- values ------------------------------------------------------------------------------------------------

    def pure(self) -> list[Step]:
        """Compute something."""
        return self.note("pure", {"evaluate": f"$ (_ * {self.chance.randint(1, 9)} + 1) % {MODULUS}"})

    def _state(self) -> list[Step]:
        return self.note("state", {"set": {"k": "$ _"}}, {"evaluate": "$ _.k + 1"}, {"get": "k"})

    def _drawn(self) -> list[Step]:
        return self.note("random", {"evaluate": f"$ (_ + random.randint(0, 50) + len(str(uuid()))) % {MODULUS}"})

    def _log(self) -> list[Step]:
        return self.note("log", {"log": "at {{ _ }}"})

    def _skipped(self) -> list[Step]:
        return self.note("when", {"evaluate": f"$ (_ + 5) % {MODULUS}", "when": "_ % 2 == 0"})

    def _labelled(self) -> list[Step]:
        label = self.label()
        made = {"evaluate": f"$ (_ + 3) % {MODULUS}", "label": label}
        # `input` is what the named list was given
        read = {"evaluate": f"$ (_ + steps['{label}'].output + (input or 0)) % {MODULUS}"}
        return self.note("label", made, *self.tool(), read)

    def _raised(self) -> list[Step]:
        step = {"error": "number {{ _ }}", "on_error": {"evaluate": f"$ (_ + len(error.message)) % {MODULUS}"}}
        return self.note("error", step)

    # --- calls -------------------------------------------------------------------------------------------------

    def tool(self) -> list[Step]:
        """Call a tool that takes some time."""
        ms = self.chance.choice([0, 0, 0, 5, 30])
        return self.note("tool", {"tool": "step_tool", "arguments": {"n": "$ _", "ms": ms}})

    def _retried(self) -> list[Step]:
        failures = self.chance.randint(1, 2)
        retry = {"attempts": failures + 1, "initial": 0.01, "factor": 1}
        return self.note("retry", {"tool": "flaky", "arguments": {"n": "$ _", "failures": failures}, "retry": retry})

    def _settled(self) -> list[Step]:
        step = {
            "tool": "flaky",
            "arguments": {"n": "$ _", "failures": 9},
            "retry": {"attempts": self.chance.randint(1, 2), "initial": 0.01},
            "on_error": [{"evaluate": "$ len(error.code) + _"}],
        }
        return self.note("on_error", step)

    def _prompt(self) -> list[Step]:
        return self.note("prompt", {"prompt": "number {{ _ }}", "unwrap": True}, {"evaluate": f"$ len(_) % {MODULUS}"})

    def _structured(self) -> list[Step]:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        messages = [{"role": "system", "content": "Echo."}, {"role": "user", "content": '{"n": {{ _ }}}'}]
        step = {"prompt": messages, "output_schema": schema, "unwrap": True, "settings": {"temperature": 0}}
        return self.note("output_schema", step, {"evaluate": f"$ (_.n + 2) % {MODULUS}"})

    # --- checks and undoing ------------------------------------------------------------------------------------

    def _checked(self) -> list[Step]:
        step = {
            **self.tool()[0],
            "check": [{"if": "_ > -1"}, {"if": "_ % 2 == 0", "message": "{{ _ }} is odd", "on_fail": "error"}],
            "retry": {"attempts": self.chance.randint(1, 2), "initial": 0.01},
            "on_error": {"evaluate": f"$ (_ + len(error.message)) % {MODULUS}"},
        }
        return self.note("check.error", step)

    def _repaired(self) -> list[Step]:
        # the model repeats what it is told last; being told what is wrong, it answers long enough
        check = {"if": "len(_) > 40", "message": "too short: {{ _ }}", "on_fail": "repair"}
        return self.note(
            "check.repair",
            {"prompt": "number {{ _ }}", "unwrap": True, "check": [check]},
            {"evaluate": f"$ len(_) % {MODULUS}"},
        )

    def _asked(self) -> list[Step]:
        self.waits = True
        check = {"if": "_ < 0", "message": "{{ _ }} is much", "on_fail": "ask"}
        return self.note("check.ask", {**self.tool()[0], "check": [check]})

    def _undone(self) -> list[Step]:
        undo = {"tool": "step_tool", "arguments": {"n": "$ _"}}
        return self.note("undo", {**self.tool()[0], "undo": [{"evaluate": f"$ (_ + 1) % {MODULUS}"}, undo]})

    # --- time --------------------------------------------------------------------------------------------------

    def _sleep(self) -> list[Step]:
        return self.note("sleep", {"sleep": {"seconds": self.chance.choice([0.02, 0.05, 0.1])}})

    def _timed_out(self) -> list[Step]:
        step = {
            "sleep": {"seconds": LONG_S},
            "timeout": self.chance.choice(SHORT_S),
            "retry": {"attempts": self.chance.randint(1, 2), "initial": 0.01, "on": ["step.timeout"]},
            "on_error": {"evaluate": f"$ (_ + error.attempts) % {MODULUS}"},
        }
        return self.note("timeout", step)

    def _in_time(self) -> list[Step]:
        return self.note("total_timeout", {**self.tool()[0], "timeout": LONG_S, "total_timeout": LONG_S})

    def _clock(self) -> list[Step]:
        return self.note("clock", {"evaluate": "$ [_, now().isoformat()]"}, {"evaluate": "$ _[0]"})

    def _hurried(self) -> list[Step]:
        step = {
            "parallel": [[{"tool": "step_tool", "arguments": {"n": "$ _", "ms": self.chance.choice([1, 40, 120])}}]],
            "timeout": self.chance.choice([0.02, 0.06]),
            "on_error": [{"evaluate": "$ [_]"}],
        }
        return self.note("timeout.close", step, {"evaluate": "$ _[0]"})

    # --- waits -------------------------------------------------------------------------------------------------

    def _wait(self) -> list[Step]:
        self.waits = True
        schema = {"type": "object", "required": ["n"]}
        wait: Step = {"info": {"n": "$ _"}, "schema": schema}
        if self.chance.random() < 0.3:
            wait |= {"deadline": LONG_S, "default": {"n": "$ _"}}
        return self.note("wait", {"wait_for_input": wait}, {"evaluate": f"$ _.n % {MODULUS}"})

    def _approve(self) -> list[Step]:
        self.waits = True
        number = f"$ (7 if _.approved else 1) % {MODULUS}"
        return self.note("approve", {"approve": {"info": "number {{ _ }}"}}, {"evaluate": number})

    def _event(self) -> list[Step]:
        self.waits = True
        step: Step = {"wait_for_event": PING, "schema": {"type": "object", "required": ["n"]}}
        if self.chance.random() < 0.5:
            step["key"] = KEY
        return self.note("event", step, {"evaluate": f"$ _.n % {MODULUS}"})

    def _unanswered(self) -> list[Step]:
        """Wait for what never comes, in one of three ways, and take the default or handle the error."""
        deadline = {"deadline": self.chance.choice(SHORT_S)}
        waits: list[Step] = [
            {"wait_for_event": "never", **deadline, "default": f"$ (_ + 2) % {MODULUS}"},
            {"approve": {"info": NOBODY, **deadline, "default": "$ _"}},
            {"wait_for_input": {"info": NOBODY, **deadline}, "on_error": {"evaluate": "$ _ + len(error.code)"}},
        ]
        return self.note("deadline", self.chance.choice(waits))

    def _expiring(self) -> list[Step]:
        self.waits = True
        wait = {"wait_for_input": {"info": {}}, "timeout": self.chance.choice([0.05, 0.2]), "on_error": {"evaluate": 3}}
        return self.note("wait.timeout", wait, {"evaluate": "$ 4"})
