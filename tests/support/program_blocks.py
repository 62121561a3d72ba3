"""The steps of random programs that hold others: loops, branches, races, sub-workflows, blocks that fail."""

from __future__ import annotations

from collections.abc import Callable

from engine.core.spec.vocabulary import DEFAULT_INBOX
from tests.support.program_leaves import HOLD, LONG_S, MODULUS, STOP, Leaves, Step

SUB, DOWN = "sub", "down"
"""Names of the sub-workflows of every program; the second runs itself."""


class Maker(Leaves):
    """Makes whole lists of steps; arguments as those of `Leaves`.

    What runs at the same time is so made that its order cannot change a result or an event: only one branch of a race
    can win, and only a branch that is alone with sleepers fails.
    """

    def steps(self, depth: int, most: int) -> list[Step]:
        """Make a list of steps."""
        made: list[Step] = []
        for _ in range(self.chance.randint(1, most)):
            if depth > 0 and self.left > 2 and self.chance.random() < 0.5:
                made += self.chance.choice(self._blocks())(depth - 1)
            elif self.left > 0:
                self.left -= 1
                made += self.leaf()
            else:
                made += self.pure()
        return made

    def _blocks(self) -> list[Callable[[int], list[Step]]]:
        return [
            *(self._parallel, self._map, self._foreach, self._if, self._yield, self._retried_block),
            *(self._switch, self._while, self._until, self._race, self._race_for_two, self._staggered),
            *(self._collected, self._broken_parallel, self._undone_block, self._slow_block, self._own_state),
            *((self._descent, self._listen) if self.listens else (self._descent,)),
        ]

    def sub(self) -> list[Step]:
        """Make the steps of the sub-workflow, which may end early."""
        leave: list[Step] = [
            {"if": "_ % 5 == 0", "then": [{"return": "$ _"}]},
            {"parallel": [[{"return": f"$ (_ + 1) % {MODULUS}"}], [{"sleep": {"seconds": LONG_S}}]], "when": "_ < 300"},
        ]
        return [*self.pure(), *self.tool(), *self.chance.sample(leave, self.chance.randint(0, 2)), *self.pure()]

    def down(self) -> list[Step]:
        """Make the steps of a sub-workflow that runs itself some times."""
        again: Step = {"workflow": DOWN, "arguments": "$ _ - 1"}
        return [{"if": "_ > 0", "then": [*self.tool(), {"evaluate": "$ input"}, again], "else": self.tool()}]

    # --- one after another -------------------------------------------------------------------------------------

    def _if(self, depth: int) -> list[Step]:
        return self.note("if", {"if": "$ _ % 2 == 0", "then": self.steps(depth, 2), "else": self.steps(depth, 1)})

    def _switch(self, depth: int) -> list[Step]:
        label = self.label()
        first = [*self.pure(), {"evaluate": "$ _", "label": label}]
        cases: list[Step] = [
            {"case": "_ % 3 == 0", "then": first},
            {"case": "$ _ % 3 == 1", "then": self.steps(depth, 2)},
        ]
        if self.chance.random() < 0.5:
            cases.append({"case": "_", "then": self.steps(depth, 1)})
        after = {"evaluate": f"$ (_ + (steps['{label}'].output if '{label}' in steps else 4)) % {MODULUS}"}
        return self.note("switch", {"switch": cases}, after)

    def _foreach(self, depth: int) -> list[Step]:
        size = self.chance.randint(0, 3)
        self.left -= size
        loop = {"in": f"$ [_ + i for i in range({size})]", "do": self.steps(depth, 2)}
        return self.note("foreach", {"foreach": loop}, {"evaluate": f"$ sum(_) % {MODULUS}"})

    def _while(self, depth: int) -> list[Step]:
        return self.note("while", self._loop({"while": "_ % 3 != 0"}, depth))

    def _until(self, depth: int) -> list[Step]:
        return self.note("until", self._loop({"until": "$ _ % 3 == 0"}, depth))

    def _loop(self, head: Step, depth: int) -> Step:
        self.left -= 2
        ending = {"max_rounds": self.chance.randint(1, 3), "on_error": {"evaluate": f"$ (_ + 6) % {MODULUS}"}}
        return {**head, "do": [*self.steps(depth, 1), *self.pure()], **ending}

    def _listen(self, depth: int) -> list[Step]:
        """Take some messages, each of which comes while nothing else runs here, and leave one word in the state."""
        self.left -= 3
        self.waits = True
        self.inboxes.add(DEFAULT_INBOX)
        turns, key = f"turns_{self.label()}", self.label()
        busy = self.chance.choice(["reject", "enqueue", "join"])
        body: list[Step] = [
            {"evaluate": "$ _[0].n" if busy == "join" else "$ _.n"},
            *self.steps(depth, 1),
            {"evaluate": "$ _", "label": key},
        ]
        body += [{"set": {turns: f"$ state.{turns} + 1"}}, {"evaluate": f"$ steps['{key}'].output"}]
        listening: Step = {
            "busy": busy,
            "schema": {"type": "object", "required": ["n"]},
            "do": body,
            "until": f"state.{turns} >= {self.chance.randint(1, 2)}",
        }
        begin = {"set": {turns: "$ _ * 0"}}
        return self.note("listen", begin, {"listen": listening}, {"evaluate": f"$ _ % {MODULUS}"})

    def conversation(self) -> list[Step]:
        """Take a message whose turn is stopped by another one; not beside others, so that it is this turn."""
        self.waits = True
        busy, label = self.chance.choice(["interrupt", "rollback"]), self.label()
        self.inboxes.add(f"{HOLD}_{label}")
        message = f"steps['{label}'].output"
        undo = {"tool": "step_tool", "arguments": {"n": "$ _"}}
        body: list[Step] = [
            {"evaluate": "$ _", "label": label},
            {"set": {"heard": f"$ {message}.n"}},
            {"tool": "step_tool", "arguments": {"n": f"$ {message}.n"}, "undo": undo},
            {"wait_for_event": STOP, "key": f"{HOLD}_{label}", "when": f"{message}.get('hold', False)"},
        ]
        listening: Step = {"messages": f"{HOLD}_{label}", "busy": busy, "do": body, "until": "_ > -1"}
        return self.note(f"listen.{busy}", {"listen": listening}, {"evaluate": f"$ (_ + state.heard) % {MODULUS}"})

    def _yield(self, depth: int) -> list[Step]:
        del depth
        self.left -= 1
        return self.note("yield", {"workflow": SUB, "arguments": "$ _ + 1"})

    def _descent(self, depth: int) -> list[Step]:
        del depth
        self.left -= 2
        return self.note("recursion", {"workflow": DOWN, "arguments": "$ _ % 3"})

    # --- at the same time --------------------------------------------------------------------------------------

    def _parallel(self, depth: int) -> list[Step]:
        branches = [self.steps(depth, 2) for _ in range(self.chance.randint(2, 3))]
        return self.note("parallel", {"parallel": branches}, {"evaluate": f"$ sum(_) % {MODULUS}"})

    def _map(self, depth: int) -> list[Step]:
        size = self.chance.randint(0, 4)
        self.left -= size
        step = {
            "over": f"$ list(range(_, _ + {size}))",
            "parallelism": self.chance.randint(1, 3),
            "map": self.steps(depth, 2),
            "reduce": f"$ (results * 3 + _) % {MODULUS}",
            "initial": 1,
        }
        return self.note("map", step)

    def _collected(self, depth: int) -> list[Step]:
        """Let every other item fail; what became of it is counted."""
        self.left -= 3
        fails = {
            "tool": "flaky",
            "arguments": {"n": "$ _", "failures": "$ 9 if _ % 2 else 0"},
            "retry": {"attempts": 1},
        }
        body = [fails, *self.steps(depth, 1), {"evaluate": "$ [_]"}]
        how = self.chance.choice(["collect", "skip"])
        step: Step = {"over": "$ [_, _ + 1, _ + 2]", "map": body, "on_item_error": how}
        if self.chance.random() < 0.5:
            step = {"parallel": [body, [{"error": "no"}], [{"evaluate": "$ [_]"}]], "on_item_error": how}
        total = f"$ sum([x[0] if 'error' not in x else len(x.error.code) for x in _]) % {MODULUS}"
        return self.note(how, step, {"evaluate": total})

    def _own_state(self, depth: int) -> list[Step]:
        """Let branches write what only they see."""
        writer = [{"set": {"k": "$ _ + 1"}}, {"evaluate": "$ _.k"}, *self.steps(depth, 1), {"get": "k"}]
        reader = [*self.tool(), {"evaluate": "$ state.k"}]
        return self.note(
            "state.branches",
            {"set": {"k": "$ _"}},
            {"evaluate": "$ _.k"},
            {"parallel": [writer, reader]},
            {"evaluate": f"$ (sum(_) + state.k) % {MODULUS}"},
        )

    def _race(self, depth: int) -> list[Step]:
        branches = [self.steps(depth, 2), self._loser(), [{"error": "lost"}]]
        self.chance.shuffle(branches)
        return self.note("race", {"race": branches})

    def _race_for_two(self, depth: int) -> list[Step]:
        branches = [self.pure(), self._loser(), self.steps(depth, 2)]
        return self.note("race.take", {"race": branches, "take": 2}, {"evaluate": f"$ sum(_) % {MODULUS}"})

    def _staggered(self, depth: int) -> list[Step]:
        branches = [[{"error": "no"}], self.steps(depth, 2), self.tool()]
        return self.note("race.stagger", {"race": branches, "stagger": LONG_S})

    def _loser(self) -> list[Step]:
        # it is undone when it is stopped
        undo = {"tool": "step_tool", "arguments": {"n": "$ _"}}
        first: Step = {"evaluate": f"$ (_ + 1) % {MODULUS}"}
        if self.chance.random() < 0.5:
            first["undo"] = undo
        return [first, {"sleep": {"seconds": LONG_S}}]

    # --- blocks that fail --------------------------------------------------------------------------------------

    def _retried_block(self, depth: int) -> list[Step]:
        """Repeat a whole block once: its last step fails as long as the state does not know better."""
        inner = self.steps(depth, 1)
        fails = {"tool": "flaky", "arguments": {"n": "$ _", "failures": 1}}
        block = {"if": "$ True", "then": [*inner, fails], "retry": {"attempts": 2, "initial": 0.01}}
        return self.note("retry.block", {**block, "on_error": [{"evaluate": 8}]})

    def _broken_parallel(self, depth: int) -> list[Step]:
        fails = [*self.steps(depth, 1), {"error": "broken"}]
        step = {"parallel": [fails, [{"sleep": {"seconds": LONG_S}}]], "on_error": {"evaluate": f"$ _ % {MODULUS}"}}
        return self.note("parallel.fail", step)

    def _undone_block(self, depth: int) -> list[Step]:
        then = [*self._undone(), *self.steps(depth, 2), *self._undone(), {"error": "take it back"}]
        handler = [{"evaluate": f"$ (_ + len(error.message)) % {MODULUS}"}, *self.tool()]
        return self.note("undo.block", {"if": "True", "then": then, "on_error": handler})

    def _slow_block(self, depth: int) -> list[Step]:
        """Run out of the time for all attempts together, which only a step around it can handle."""
        del depth
        slow = {"if": "True", "then": [{"sleep": {"seconds": LONG_S}}], "total_timeout": 0.05}
        return self.note("total_timeout.hit", {"if": "True", "then": [slow], "on_error": {"evaluate": "$ _"}})
