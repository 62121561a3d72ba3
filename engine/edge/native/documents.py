"""What the OpenAPI document says of each operation of the native API: bodies, answers, refusals, examples."""

from __future__ import annotations

from typing import Final

from engine.core.values import Json
from engine.edge.http.openapi import Doc, Docs
from engine.edge.native import (
    answers,
    codec,
    data_answers,
    execution_answers,
    keys,
    links,
    messages,
    purging,
    resuming,
    shapes,
    steering,
    versions,
)
from engine.edge.native.agent_tools import AGENT_TOOL_DOCS
from engine.edge.native.agents import AGENT_DOCS
from engine.edge.native.budgets import BUDGET_DOCS
from engine.edge.native.docs import DOC_DOCS
from engine.edge.native.door_documents import DOOR_DOCS
from engine.edge.native.files import FILE_DOCS
from engine.edge.native.jobs import JOB_DOCS
from engine.edge.native.owner_docs import OWNER_DOC_DOCS
from engine.edge.native.projects import PROJECT_DOCS
from engine.edge.native.registry_documents import REGISTRY_DOCS
from engine.edge.native.secrets import SECRET_DOCS
from engine.edge.native.session_documents import SESSION_DOCS
from engine.edge.native.session_render import RENDER_DOCS
from engine.edge.native.shapes import Body
from engine.edge.native.users import USER_DOCS

_TASK: Final = 'name: greet\nmain:\n  - prompt: "Say hello to {{ _.name }}"\n    unwrap: true\n'
_TEXT_ERRORS: Final = (400, 413, 415, 422)
_BODY_ERRORS: Final = (400, 413, 415, 422)
_LIST_ERRORS: Final = (400, 422)
_STREAM: Final = "text/event-stream"


def _stored(ok: tuple[int, ...], *errors: int) -> Doc:
    return Doc(answer=answers.TaskView, ok=ok, errors=(*_TEXT_ERRORS, *errors), body="task", example=_TASK)


_PATCHED: Final = Doc(
    answer=answers.TaskView,
    errors=(*_BODY_ERRORS, 404, 409),
    body=answers.TaskPatch,
    example={"description": "Says hello.", "metadata": {"team": "support"}},
)
_REMOVED: Final = Doc(answer=answers.RemovedTask, ok=(202,), errors=(400, 404, 409, 422))


def _steered(body: type[Body], example: Json) -> Doc:
    errors = (*_BODY_ERRORS, 404, 409, 503, 504)
    return Doc(answer=execution_answers.ExecutionView, errors=errors, body=body, example=example)


DOCS: Final[Docs] = {
    **AGENT_DOCS,
    **AGENT_TOOL_DOCS,
    **USER_DOCS,
    **SESSION_DOCS,
    **RENDER_DOCS,
    **PROJECT_DOCS,
    # tasks
    ("POST", "/api/agents/{agent_id}/tasks"): _stored((200, 201), 404, 409),
    ("GET", "/api/agents/{agent_id}/tasks"): Doc(answer=answers.Tasks, errors=(*_LIST_ERRORS, 404)),
    ("POST", "/api/agents/{agent_id}/tasks/{task_id}"): _stored((201,), 404, 409),
    ("GET", "/api/agents/{agent_id}/tasks/{task_id}"): Doc(answer=answers.TaskView, errors=(400, 404, 422)),
    ("PUT", "/api/agents/{agent_id}/tasks/{task_id}"): _stored((200,), 404, 409),
    ("PATCH", "/api/agents/{agent_id}/tasks/{task_id}"): _PATCHED,
    ("DELETE", "/api/agents/{agent_id}/tasks/{task_id}"): _REMOVED,
    ("POST", "/api/tasks"): _stored((200, 201), 404, 409),
    ("POST", "/api/tasks/validate"): Doc(
        answer=answers.CheckedView, errors=(*_TEXT_ERRORS, 404, 409), body="task", example=_TASK
    ),
    ("POST", "/api/tasks/apply"): Doc(
        answer=answers.AppliedView,
        errors=(*_BODY_ERRORS, 404, 409),
        body=versions.ApplyBody,
        example={"tasks": [{"file": "greet.yaml", "source": _TASK}], "dry_run": True},
    ),
    ("GET", "/api/tasks"): Doc(answer=answers.Tasks, errors=_LIST_ERRORS),
    ("GET", "/api/tasks/{task_id}"): Doc(answer=answers.TaskView, errors=(400, 404, 422)),
    ("PUT", "/api/tasks/{task_id}"): _stored((200,), 404, 409),
    ("PATCH", "/api/tasks/{task_id}"): _PATCHED,
    ("DELETE", "/api/tasks/{task_id}"): _REMOVED,
    ("GET", "/api/tasks/{task_id}/versions"): Doc(answer=answers.Versions, errors=(*_LIST_ERRORS, 404)),
    ("GET", "/api/tasks/{task_id}/versions/{version}"): Doc(answer=answers.VersionView, errors=(400, 404, 422)),
    ("GET", "/api/tasks/{task_id}/diff"): Doc(answer=answers.DifferenceView, errors=(400, 404, 422)),
    ("POST", "/api/tasks/{task_id}/diff"): Doc(
        answer=answers.DifferenceView, errors=(*_TEXT_ERRORS, 404, 409), body="task", example=_TASK
    ),
    ("GET", "/api/tasks/{task_id}/aliases"): Doc(answer=answers.Aliases, errors=(400, 404, 422)),
    ("GET", "/api/aliases"): Doc(answer=answers.Aliases),
    ("PUT", "/api/tasks/{task_id}/aliases/{alias}"): Doc(
        answer=answers.AliasView, errors=(*_BODY_ERRORS, 404, 409), body=versions.AliasBody, example={"version": 3}
    ),
    ("DELETE", "/api/tasks/{task_id}/aliases/{alias}"): Doc(ok=(204,), errors=(400, 404, 422)),
    # executions
    ("POST", "/api/tasks/{task_id}/executions"): Doc(
        answer=execution_answers.ExecutionView,
        ok=(200, 201),
        errors=(*_BODY_ERRORS, 404, 409, 503),
        body=shapes.StartBody,
        example={"input": {"name": "Ada"}, "labels": ["vip"], "metadata": {"order": 17}},
    ),
    ("GET", "/api/tasks/{task_id}/executions"): Doc(answer=execution_answers.Executions, errors=(*_LIST_ERRORS, 404)),
    ("GET", "/api/tasks/{task_id}/executions/counts"): Doc(
        answer=execution_answers.Counts, errors=(*_LIST_ERRORS, 404)
    ),
    ("GET", "/api/executions"): Doc(answer=execution_answers.Executions, errors=_LIST_ERRORS),
    ("GET", "/api/executions/counts"): Doc(answer=execution_answers.Counts, errors=_LIST_ERRORS),
    ("GET", "/api/executions/find"): Doc(answer=execution_answers.FoundExecutions, errors=_LIST_ERRORS),
    ("GET", "/api/executions/{execution_id}"): Doc(answer=execution_answers.ExecutionView, errors=(404, 422)),
    ("PUT", "/api/executions/{execution_id}"): Doc(
        answer=execution_answers.ExecutionView,
        errors=(*_BODY_ERRORS, 404, 409, 503, 504),
        body=shapes.ChangeBody,
        example={"status": "running", "input": True, "wait_id": "main.1"},
    ),
    ("PUT", "/api/tasks/{task_id}/executions"): Doc(
        answer=execution_answers.ExecutionView,
        errors=(*_BODY_ERRORS, 404, 409, 503, 504),
        body=resuming.ResumeBody,
        example={"task_token": "WyJkZWZhdWx0Il0.c2lnbmF0dXJl", "input": "Ada", "status": "running"},
    ),
    ("PUT", "/api/tasks/{task_id}/executions/{execution_id}"): Doc(
        answer=execution_answers.ExecutionView,
        errors=(*_BODY_ERRORS, 404, 409, 503, 504),
        body=shapes.ChangeBody,
        example={"status": "cancelled", "reason": "not needed"},
    ),
    ("POST", "/api/executions"): Doc(
        answer=execution_answers.Resumed,
        errors=(*_BODY_ERRORS, 403, 404, 409, 503, 504),
        body=resuming.TokenAnswerBody,
        example={"input": "Ada"},
    ),
    ("POST", "/api/executions/{execution_id}/pause"): _steered(steering.SteerBody, {"reason": "deploy"}),
    ("POST", "/api/executions/{execution_id}/continue"): _steered(steering.ContinueBody, {"break_at": ["main.3"]}),
    ("POST", "/api/executions/{execution_id}/breaks"): _steered(steering.BreaksBody, {"break_at": ["main.3", "pay"]}),
    ("POST", "/api/executions/{execution_id}/terminate"): _steered(steering.SteerBody, {"reason": "runs away"}),
    ("PATCH", "/api/executions/{execution_id}/waits/{wait_id}"): _steered(steering.DeadlineBody, {"deadline": "2h"}),
    ("POST", "/api/executions/{execution_id}/retry"): Doc(
        answer=execution_answers.ExecutionView,
        ok=(200, 201),
        errors=(*_BODY_ERRORS, 404, 409, 503),
        body=steering.RetryBody,
        example={"definition": "own"},
    ),
    ("POST", "/api/executions/{execution_id}/fork"): Doc(
        answer=execution_answers.ExecutionView,
        ok=(200, 201),
        errors=(*_BODY_ERRORS, 404, 409, 503),
        body=steering.ForkBody,
        example={"at": "main.3", "patch": {"main.2": "another answer"}, "definition": "newest"},
    ),
    ("POST", "/api/executions/{execution_id}/waits/{wait_id}/link"): Doc(
        answer=execution_answers.LinkMade,
        ok=(201,),
        errors=(*_BODY_ERRORS, 404, 409),
        body=links.LinkBody,
        example={"actor": "ada@example.org", "expires_in": "2d"},
    ),
    ("GET", "/api/link"): Doc(answer=execution_answers.LinkView, errors=(404, 410, 422)),
    ("POST", "/api/link"): Doc(
        answer=execution_answers.LinkView,
        errors=(*_BODY_ERRORS, 404, 409, 410, 503, 504),
        body=links.LinkAnswerBody,
        example={"value": True},
    ),
    ("POST", "/api/executions/{execution_id}/events"): Doc(
        answer=execution_answers.EventTaken,
        ok=(202,),
        errors=(*_BODY_ERRORS, 404, 409, 503),
        body=shapes.EventBody,
        example={"name": "payment.settled", "key": "order-17", "value": {"amount": 42}},
    ),
    ("POST", "/api/executions/{execution_id}/messages"): Doc(
        answer=execution_answers.MessageTaken,
        errors=(*_BODY_ERRORS, 404, 409, 503, 504),
        body=messages.MessageBody,
        example={"name": "chat", "value": "And what does it cost?", "busy": "interrupt"},
    ),
    ("GET", "/api/executions/{execution_id}/transitions"): Doc(
        answer=execution_answers.Transitions, errors=(*_LIST_ERRORS, 404)
    ),
    ("GET", "/api/executions/{execution_id}/transitions/{transition_id}"): Doc(
        answer=execution_answers.TransitionView, errors=(404, 422)
    ),
    ("GET", "/api/executions/{execution_id}/events"): Doc(answer=execution_answers.Events, errors=(*_LIST_ERRORS, 404)),
    ("GET", "/api/executions/{execution_id}/steps"): Doc(answer=execution_answers.Steps, errors=(*_LIST_ERRORS, 404)),
    ("GET", "/api/executions/{execution_id}/steps/{path}"): Doc(
        answer=execution_answers.StepVisits, errors=(*_LIST_ERRORS, 404)
    ),
    ("GET", "/api/executions/{execution_id}/attempts"): Doc(
        answer=execution_answers.Attempts, errors=(*_LIST_ERRORS, 404)
    ),
    ("GET", "/api/executions/{execution_id}/history"): Doc(
        answer=execution_answers.History, errors=(*_LIST_ERRORS, 404)
    ),
    ("GET", "/api/executions/{execution_id}/temporal"): Doc(
        answer=execution_answers.RawHistory, errors=(*_LIST_ERRORS, 404, 503)
    ),
    ("GET", "/api/executions/{execution_id}/tokens.stream"): Doc(errors=(404, 422), media=_STREAM),
    ("GET", "/api/executions/{execution_id}/status.stream"): Doc(errors=(404, 422), media=_STREAM),
    ("GET", "/api/executions/{execution_id}/transitions.stream"): Doc(errors=(404, 422), media=_STREAM),
    ("GET", "/api/executions/{execution_id}/events.stream"): Doc(errors=(404, 422), media=_STREAM),
    # keys
    ("POST", "/api/keys"): Doc(
        answer=answers.NewKey,
        ok=(201,),
        errors=(*_BODY_ERRORS, 409),
        body=keys.KeyBody,
        example={"name": "webapp", "scopes": ["run"]},
    ),
    ("GET", "/api/keys"): Doc(answer=answers.Keys, errors=_LIST_ERRORS),
    ("DELETE", "/api/keys/{key_id}"): Doc(answer=answers.KeyView, errors=(400, 404, 422)),
    # data
    ("POST", "/api/purge"): Doc(
        answer=data_answers.PurgeView,
        errors=(*_BODY_ERRORS, 409, 503),
        body=purging.PurgeBody,
        example={"older_than_s": 2_592_000, "status": ["succeeded"], "dry_run": True},
    ),
    ("POST", "/api/codec/decode"): Doc(
        answer=data_answers.Payloads,
        errors=(*_BODY_ERRORS, 409, 503),
        body=codec.PayloadsBody,
        example=data_answers.SEALED,
    ),
    ("POST", "/api/codec/encode"): Doc(
        answer=data_answers.Payloads,
        errors=(*_BODY_ERRORS, 409, 503),
        body=codec.PayloadsBody,
        example=data_answers.PLAIN,
    ),
    **DOOR_DOCS,
    **REGISTRY_DOCS,
    **SECRET_DOCS,
    **BUDGET_DOCS,
    **DOC_DOCS,
    **OWNER_DOC_DOCS,
    **FILE_DOCS,
    **JOB_DOCS,
    # the service
    ("GET", "/api/usage"): Doc(answer=execution_answers.UsageReport, errors=_LIST_ERRORS),
    ("GET", "/api/overview"): Doc(answer=execution_answers.Overview, errors=_LIST_ERRORS),
    ("GET", "/api/metrics"): Doc(media="text/plain"),
    ("GET", "/api/healthz"): Doc(answer=answers.Health),
    ("GET", "/api/readyz"): Doc(answer=answers.Readiness, ok=(200, 503)),
}
