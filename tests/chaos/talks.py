"""Sessions in which clients talk that repeat blindly, and starts and answers of executions beside them."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from julep import APIConnectionError, APIStatusError, AsyncJulep

from engine.edge.mockllm.app import MockLlm
from engine.edge.mockllm.script import MockRule, MockScript, MockStream, MockToolCall
from tests.chaos.kept import Kept
from tests.support.stage import Stage

SDK, BLIND, STREAM, TOOLS, TRUNCATE, ADAPTIVE = "sdk", "blind", "stream", "tools", "truncate", "adaptive"
KINDS: Final = (SDK, BLIND, STREAM, TOOLS, TRUNCATE, ADAPTIVE)
BUDGET: Final = 420
"""Tokens of a prompt where the history must not grow: some four turns."""
PADDING: Final = " and so on" * 12
FIRST: Final = "let me see: "
"""What the model says before it calls a tool."""
TRY_S: Final = 2.0
"""How long a blind client waits for an answer: often not long enough."""
PAUSE_S: Final = 0.3
TASK: Final = """\
name: two
main:
  - label: first
    wait_for_input: {info: first?}
  - wait_for_input: {info: second?}
  - evaluate: {n: "$ steps[0].input.n", first: "$ steps['first'].output", second: $ _}
"""


def script(turns: int) -> MockScript:
    """Return what the model says: what it was told, once more; before that a call of a tool where one is to be used.

    Args:
        turns: Most turns of a session.
    """
    # of such a turn the history keeps two messages of the assistant, of others one
    calls = [
        MockRule(match=match, turn=before, reply=FIRST, tool_calls=[MockToolCall(name="note", arguments={"json": n})])
        for n in range(turns)
        for match, before in (("^use", 2 * n), ("^tell", 3 * n + 1))
    ]
    sums_up = MockRule(match="^(user|Summary of what)", reply="in short", delay_s=0.3)
    says = MockRule(reply="heard {last}", delay_s=0.3, stream=MockStream(chunk_chars=6, delay_s=0.1))
    return MockScript(rules=[sums_up, *calls, says])


@dataclass
class Talk:
    """A session.

    Attributes:
        kind: One of KINDS.
        id: Its id.
        texts: What is said in it, in order.
        called: By text, how often the model had been asked for it when the client had its answer.
        pieces: Of streams, by text what each connection told of the answer.
    """

    kind: str
    id: str
    texts: list[str]
    called: dict[str, int] = field(default_factory=dict)
    pieces: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Start:
    """An execution with two waits, once its start was acknowledged."""

    n: int
    id: str
    output: Any = None


@dataclass
class Talks:
    """Clients of one installation.

    Args:
        stage: The installation.
        kept: What its store holds.
        mock: The model.
        julep: Julep's SDK as it comes.
        http: A client of the API that repeats as the SDK does, and does not give up.
        tools_url: Where tools have their effects.

    Attributes:
        all: The sessions.
        starts: The executions.
        again: How often a request was repeated blindly, and streams were asked for again.
        given_up: How often the SDK gave up, by what it was about.
        pending: How many answers no worker took in time.
        task_id: The task of the executions.
    """

    stage: Stage
    kept: Kept
    mock: MockLlm
    julep: AsyncJulep
    http: httpx.AsyncClient
    tools_url: str
    all: list[Talk] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    task_id: str = ""

    async def prepare(self, kinds: Sequence[str], *, turns: int) -> None:
        """Make an agent, a task and sessions.

        Args:
            kinds: Kinds of the sessions, one for each.
            turns: How many turns each has.
        """
        agent = (await self.julep.agents.create(name="Ada", model="mock", instructions="Be short.")).id
        made = await self.http.post("/tasks", content=TASK, headers={"content-type": "application/yaml"})
        assert made.is_success, made.text
        self.task_id = made.json()["id"]
        for number, kind in enumerate(kinds):
            bounded = kind in (TRUNCATE, ADAPTIVE)
            more: dict[str, Any] = {"token_budget": BUDGET, "context_overflow": kind} if bounded else {}
            session = await self.julep.sessions.create(agent=agent, auto_run_tools=True, **more)
            verbs = {TOOLS: ("use", "use"), STREAM: ("say", "tell")}.get(kind, ("say", "say"))
            texts = [f"{verbs[n % 2]} {number}.{n}{PADDING if bounded else ''}" for n in range(turns)]
            self.all.append(Talk(kind, session.id, texts))

    async def run(self, *, starts: int, seed: int, pause_s: float) -> None:
        """Talk in all sessions at once, and start executions beside.

        Args:
            starts: How many executions.
            seed: For the pauses.
            pause_s: Longest pause before something is said or started.
        """
        chance = random.Random(seed)
        async with asyncio.TaskGroup() as group:
            for talk in self.all:
                pauses = [chance.uniform(0, pause_s) for _ in talk.texts]
                group.create_task(self._talk(talk, pauses))
            for n in range(starts):
                group.create_task(self._start(n, chance.uniform(0, pause_s * len(self.all[0].texts))))

    async def _talk(self, talk: Talk, pauses: list[float]) -> None:
        say = {STREAM: self._streamed, BLIND: self._blind, TRUNCATE: self._blind}.get(talk.kind, self._by_sdk)
        for text, pause_s in zip(talk.texts, pauses, strict=True):
            await asyncio.sleep(pause_s)
            assert await say(talk, text) == answer_to(text), talk
            talk.called[text] = self.calls()[text]

    def calls(self) -> Counter[str]:
        """Return how often the model was asked, by the last thing that a user said."""
        told = (next(item for item in reversed(call["messages"]) if item["role"] == "user") for call in self.mock.calls)
        return Counter(str(item["content"]) for item in told)

    # --- chats -------------------------------------------------------------------------------------------------------

    def _asking(self, text: str) -> dict[str, Any]:
        given: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        if is_tool_used(text):
            tool = {"name": "note", "type": "api_call", "api_call": {"method": "POST", "url": self.tools_url}}
            given["tools"] = [tool]
        return given

    async def _blind(self, talk: Talk, text: str) -> str:
        answer = await self.insist("POST", f"/sessions/{talk.id}/chat", self._asking(text))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

    async def _by_sdk(self, talk: Talk, text: str) -> str:
        while True:
            try:
                answer: Any = await self.julep.sessions.chat(talk.id, **self._asking(text))
            except (APIConnectionError, APIStatusError) as error:
                self._check_it_may_give_up(error, "chats")
                if (told := await self._kept_answer(talk, text)) is not None:
                    return told
            else:
                return str(answer.choices[0].message.content)

    def _check_it_may_give_up(self, error: APIConnectionError | APIStatusError, what: str) -> None:
        status = error.status_code if isinstance(error, APIStatusError) else 503
        assert status == 503, error
        self.given_up[what] += 1

    async def _kept_answer(self, talk: Talk, text: str) -> str | None:
        """Look into the history, as is told to those whose connection was lost; None = it was never said."""
        await self.kept.quiet(talk.id)
        said = await self.kept.said(talk.id)
        return str(said[-1][1]) if ("user", text) in said else None

    async def _streamed(self, talk: Talk, text: str) -> str:
        """Ask for a stream, again and again under the same key, until one came to its end."""
        body, headers = {**self._asking(text), "stream": True}, {"idempotency-key": f"{talk.id} {text}"}
        while True:
            talk.pieces[text].append("")
            try:
                async with self.http.stream("POST", f"/sessions/{talk.id}/chat", json=body, headers=headers) as answer:
                    assert answer.status_code in (201, 503), answer.status_code
                    async for line in answer.aiter_lines():
                        if line.startswith("data:") and answer.status_code == 201:
                            chunk = json.loads(line.removeprefix("data:"))
                            assert "error" not in chunk, chunk
                            choice = chunk["choices"][0]
                            talk.pieces[text][-1] += choice["delta"]["content"]
                            if choice["finish_reason"]:
                                return talk.pieces[text][-1].removeprefix(FIRST)
            except httpx.TransportError:
                pass
            self.again["streams"] += 1
            await asyncio.sleep(PAUSE_S)

    async def insist(self, method: str, path: str, body: Any) -> httpx.Response:
        """Ask as the SDK does, with a count in place of a key, until the answer is not worth a repetition."""
        for count in itertools.count():
            headers = {"x-stainless-lang": "python", "x-stainless-retry-count": str(count)}
            try:
                answer = await self.http.request(method, path, json=body, headers=headers, timeout=TRY_S)
            except httpx.TransportError:
                pass
            else:
                if answer.headers.get("x-should-retry") != "true":
                    return answer
            self.again["requests"] += 1
            await asyncio.sleep(PAUSE_S)
        raise AssertionError("it does not come here")

    # --- starts and answers ------------------------------------------------------------------------------------------

    async def _start(self, n: int, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        by_sdk = n % 2 == 0
        started = Start(n, await self._begun_by_sdk(n) if by_sdk else await self._begun_blindly(n))
        self.starts.append(started)
        for which in ("first", "second"):
            await self._until(started, asks(f"{which}?"))
            answer = {"status": "running", "input": f"{which} {n}"}
            taken = await self.insist("PUT", f"/executions/{started.id}", answer)
            # what no worker took in time is on its way, and has its effect without a repetition
            assert taken.is_success or taken.json()["code"] == "answer.pending", taken.text
            self.pending += not taken.is_success
        started.output = (await self._until(started, lambda seen: seen["status"] == "succeeded"))["output"]

    async def _begun_blindly(self, n: int) -> str:
        answer = await self.insist("POST", f"/tasks/{self.task_id}/executions", {"input": {"n": n}})
        # 200 is for one that is there already
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    async def _begun_by_sdk(self, n: int) -> str:
        while True:
            try:
                return (await self.julep.executions.create(self.task_id, input={"n": n})).id
            except (APIConnectionError, APIStatusError) as error:
                self._check_it_may_give_up(error, "starts")

    async def _until(self, started: Start, there: Callable[[Any], bool]) -> Any:
        while True:
            try:
                seen = await self.http.get(f"/executions/{started.id}")
            except httpx.TransportError:
                pass
            else:
                if seen.is_success and there(seen.json()):
                    return seen.json()
            await asyncio.sleep(PAUSE_S)


def asks(question: str) -> Callable[[Any], bool]:
    """Return what tells whether an execution waits for an answer to a question."""
    return lambda seen: question in [one["info"] for one in seen["waits"]]


def is_tool_used(text: str) -> bool:
    """Whether the model calls a tool before it answers."""
    return not text.startswith("say")


def answer_to(text: str) -> str:
    """Return what the model answers."""
    return f"heard {text}"
