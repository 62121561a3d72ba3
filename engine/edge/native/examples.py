"""Examples of the native API's answers, for its OpenAPI document; a test holds that each fits its shape."""

from __future__ import annotations

from typing import Any, Final

from engine.core.values import Json
from engine.edge.native import answers, data_answers, execution_answers
from engine.edge.native.agent_tools import AGENT_TOOL_ANSWERS
from engine.edge.native.agents import AGENT_ANSWERS
from engine.edge.native.answers import MOMENT, TASK_ID
from engine.edge.native.budgets import BUDGET_ANSWERS
from engine.edge.native.docs import DOC_ANSWERS
from engine.edge.native.door_answers import DOOR_EXAMPLES
from engine.edge.native.execution_answers import EXECUTION_ID
from engine.edge.native.files import FILE_ANSWERS
from engine.edge.native.jobs import JOB_ANSWERS
from engine.edge.native.owner_docs import OWNER_DOC_ANSWERS
from engine.edge.native.projects import PROJECT_ANSWERS
from engine.edge.native.registry_answers import REGISTRY_EXAMPLES
from engine.edge.native.secrets import SECRET_ANSWERS
from engine.edge.native.session_documents import SESSION_ANSWERS
from engine.edge.native.session_render import RENDER_ANSWERS
from engine.edge.native.users import USER_ANSWERS

_Object = dict[str, Json]

_USAGE: Final[_Object] = {
    "llm_calls": 1,
    "tool_calls": 0,
    "prompt_tokens": 12,
    "completion_tokens": 4,
    "total_tokens": 16,
    "cached_tokens": 8,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "cost": "0.000004",
    "unpriced_calls": 0,
}
_WAIT: Final[_Object] = {
    "id": "main.1",
    "path": "main.1",
    "label": "sure",
    "info": {"text": "Hello Ada!"},
    "schema": {"type": "boolean"},
    "deadline": None,
    "opened_at": MOMENT,
}
_EXECUTION: Final[_Object] = {
    "id": EXECUTION_ID,
    "task_id": TASK_ID,
    "task_name": "greet",
    "task_version": 1,
    "agent_id": None,
    "parent_id": None,
    "parent_path": None,
    "forked": None,
    "status": "awaiting_input",
    "paused": None,
    "input": {"name": "Ada"},
    "output": None,
    "error": None,
    "labels": ["vip"],
    "metadata": {"order": 17},
    "actor": "webapp",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "stuck": None,
    "gone_at": None,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "closed_at": None,
    "transition_count": 3,
    "last_seq": 5,
    "verified": None,
    "waits": [_WAIT],
    "usage": _USAGE,
}
_TASK: Final[_Object] = {
    "id": TASK_ID,
    "name": "greet",
    "version": 1,
    "agent_id": None,
    "description": "",
    "canonical_name": None,
    "input_schema": None,
    "metadata": {},
    "main": [{"prompt": "Say hello to {{ _.name }}", "unwrap": True}],
    "plan_hash": "5f0c2d1b",
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
_FINDING: Final[_Object] = {
    "code": "E207",
    "severity": "error",
    "message": "there is no kind of step 'evalute'",
    "hint": "did you mean 'evaluate'?",
    "file": "greet.yaml",
    "line": 3,
    "column": 5,
    "path": "main.0",
}
_ALIAS: Final[_Object] = {"alias": "prod", "task_id": TASK_ID, "version": 3, "updated_at": MOMENT}
_VERSION: Final[_Object] = {
    "id": TASK_ID,
    "name": "greet",
    "version": 3,
    "latest": True,
    "aliases": ["prod"],
    "plan_hash": "5f0c2d1b",
    "description": "",
    "created_at": MOMENT,
}
_TRANSITION: Final[_Object] = {
    "id": "7d0c8e12-4f6a-8001-8000-000000000003",
    "execution_id": EXECUTION_ID,
    "type": "step",
    "output": "Hello Ada!",
    "current": {"workflow": "main", "step": 0, "scope_id": "9c1e5a70-2b1d-8f3e-9c1e-5a702b1d8f3e"},
    "next": {"workflow": "main", "step": 1, "scope_id": "9c1e5a70-2b1d-8f3e-9c1e-5a702b1d8f3e"},
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "metadata": {"seq": 4, "step_type": "prompt", "path": "main.0"},
    "step_label": "ask",
}
_EVENT: Final[_Object] = {
    "id": "7d0c8e12-4f6a-8001-8000-000000000003",
    "seq": 3,
    "type": "effect.finished",
    "at": MOMENT,
    "run_id": "3f2c1b0a-9e8d-4c7b-a6f5-e4d3c2b1a098",
    "is_transition": False,
    "body": {"path": "main.0", "effect_id": "main.0#1", "outcome": "ok", "model": "gpt-4o-mini", "cost": "0.000004"},
}
_STEP: Final[_Object] = {
    "path": "main.0",
    "depth": 0,
    "kind": "prompt",
    "label": "ask",
    "state": "done",
    "began_at": MOMENT,
    "ended_at": MOMENT,
    "took_s": 0.8,
    "tries": 1,
    "input": {"seq": 1, "value": {"name": "Ada"}},
    "output": {"seq": 4, "value": "Hello Ada!"},
    "error": None,
    "child_ids": [],
    "usage": _USAGE,
}
_AT_STEP: Final[_Object] = {
    "attempt": 1,
    "round": 0,
    "outcome": "ok",
    "request": {"seq": 2, "value": {"messages": [{"role": "user", "content": "Say hello to Ada"}]}},
    "reply": {"seq": 3, "value": {"role": "assistant", "content": "Hello Ada!"}},
    "model": "gpt-4o-mini",
    "cost": "0.000004",
    "error": None,
    "pause_s": None,
    "deliveries": 1,
    "cached": False,
}
_ATTEMPT: Final[_Object] = {
    "id": "main.0#1",
    "path": "main.0",
    "label": "ask",
    "kind": "prompt",
    "name": "gpt-4o-mini",
    "attempt": 1,
    "outcome": "ok",
    "error_code": None,
    "started_at": MOMENT,
    "ended_at": MOMENT,
    "took_s": 0.8,
    "retry_in_s": None,
    "deliveries": 1,
    "model": "gpt-4o-mini",
    "backend": "openai",
    "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16, "cached_tokens": 8},
    "cost": "0.000004",
    "child_id": None,
}
_KEY: Final[_Object] = {
    "id": "k7Qm2x",
    "tenant": "default",
    "name": "webapp",
    "scopes": ["read", "run"],
    "created_at": MOMENT,
    "created_by": "root",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}
_COUNTS: Final[_Object] = {"total": 3, "by_status": {"succeeded": 2, "failed": 1}}


def _page(item: _Object) -> _Object:
    return {"items": [item], "next_cursor": None}


ANSWERS: Final[dict[type[Any], _Object]] = {
    **SECRET_ANSWERS,
    **BUDGET_ANSWERS,
    **DOC_ANSWERS,
    **OWNER_DOC_ANSWERS,
    **FILE_ANSWERS,
    **JOB_ANSWERS,
    **AGENT_ANSWERS,
    **AGENT_TOOL_ANSWERS,
    **USER_ANSWERS,
    **SESSION_ANSWERS,
    **RENDER_ANSWERS,
    **PROJECT_ANSWERS,
    answers.Deleted: {"id": TASK_ID, "deleted_at": MOMENT, "jobs": []},
    answers.TaskView: _TASK,
    answers.Tasks: {"items": [_TASK]},
    answers.CheckedView: {"ok": False, "name": "greet", "diagnostics": [_FINDING]},
    answers.Versions: {"items": [_VERSION]},
    answers.VersionView: {"task": _TASK, "source": "name: greet\nmain: …\n", "plan": {"task": "greet"}},
    answers.RemovedTask: {"id": TASK_ID, "name": "greet", "deleted_at": MOMENT, "jobs": []},
    answers.AliasView: _ALIAS,
    answers.Aliases: {"items": [_ALIAS]},
    answers.AppliedView: {
        "changes": [
            {
                "change": "updated",
                "name": "greet",
                "id": TASK_ID,
                "version": 4,
                "previous_version": 3,
                "file": "greet.yaml",
                "plan_hash": "5f0c2d1b",
                "aliases": [],
                "warnings": [],
            }
        ],
        "dry_run": False,
    },
    answers.DifferenceView: {"changes": ["the prompt of 'ask' changed"], "gains": [], "losses": []},
    answers.KeyView: _KEY,
    answers.NewKey: {**_KEY, "key": "es_k7Qm2x_…"},
    answers.Keys: _page(_KEY),
    answers.Health: {"status": "ok", "version": "0.1.0"},
    answers.Readiness: {"status": "ready", "version": "0.1.0", "store": {"ok": True}, "temporal": {"ok": True}},
    execution_answers.ExecutionView: _EXECUTION,
    execution_answers.Resumed: {
        "id": EXECUTION_ID,
        "status": "running",
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "jobs": [EXECUTION_ID],
    },
    execution_answers.Executions: _page(_EXECUTION),
    execution_answers.Counts: _COUNTS,
    execution_answers.FoundExecutions: {"items": [{"id": EXECUTION_ID, "created_at": MOMENT}]},
    execution_answers.TransitionView: _TRANSITION,
    execution_answers.Transitions: _page(_TRANSITION),
    execution_answers.Events: _page(_EVENT),
    execution_answers.LinkMade: {
        "url": "https://everstep.example/api/link?token=WyJkZWZhdWx0Ii…",
        "execution_id": EXECUTION_ID,
        "wait_id": "main.1",
        "actor": "ada@example.org via webapp",
        "expires_at": MOMENT,
    },
    execution_answers.LinkView: {
        "execution_id": EXECUTION_ID,
        "task_name": "greet",
        "wait_id": "main.1",
        "label": "sure",
        "info": {"text": "Hello Ada!"},
        "schema": {"type": "boolean"},
        "values": None,
        "actor": "ada@example.org via webapp",
        "expires_at": MOMENT,
        "open": True,
        "answer": None,
        "answered_by": None,
        "outcome": None,
    },
    execution_answers.EventTaken: {"id": "order-17-paid", "execution_id": EXECUTION_ID},
    execution_answers.MessageTaken: {
        "execution_id": EXECUTION_ID,
        "message_id": "question-2",
        "name": "chat",
        "disposition": "interrupting",
        "path": "main.0",
        "turn": 1,
    },
    execution_answers.Steps: {"execution": {"id": EXECUTION_ID, "status": "awaiting_input"}, **_page(_STEP)},
    execution_answers.StepVisits: {
        "path": "main.0",
        "visits": 1,
        **_page({**_STEP, "attempts": [_AT_STEP], "waits": [], "blocks": []}),
    },
    execution_answers.Attempts: _page(_ATTEMPT),
    execution_answers.History: _page(
        {
            "at": MOMENT,
            "seq": 2,
            "type": "effect.started",
            "what": "'ask': the model gpt-4o-mini is asked",
            "path": "main.0",
            "data": {"attempt": 1},
        }
    ),
    execution_answers.RawHistory: {
        "run_id": "3f2c1b0a-9e8d-4c7b-a6f5-e4d3c2b1a098",
        "items": [{"event_id": 7, "type": "ActivityTaskCompleted", "at": MOMENT}],
        "next_page_token": None,
        "previous_run_id": None,
    },
    execution_answers.UsageReport: {
        "by": "model",
        "items": [{"key": "gpt-4o-mini", **_USAGE}],
        "total": _USAGE,
        "truncated": False,
    },
    **DOOR_EXAMPLES,
    **REGISTRY_EXAMPLES,
    execution_answers.Overview: {"at": MOMENT, "counts": _COUNTS, "stuck": 0, "open": [], "processes": []},
    data_answers.PurgeView: {
        "dry_run": True,
        "purged": 1,
        "ids": [EXECUTION_ID],
        "pending": [],
        "kept": [],
        "next_cursor": None,
    },
    data_answers.Payloads: data_answers.PLAIN,
}
"""An example of every shape that an operation answers."""
