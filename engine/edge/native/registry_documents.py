"""What the OpenAPI document says of backends, groups, models and fetches."""

from __future__ import annotations

from typing import Final

from engine.edge.http.openapi import Doc, Docs
from engine.edge.native import backends, models, registry_answers

_BODY: Final = (400, 413, 415, 422)
_LIST: Final = (400, 422)
_DESK: Final = {"kind": "ollama", "models": ["qwen3"], "pull": True}

REGISTRY_DOCS: Final[Docs] = {
    ("GET", "/api/backends"): Doc(answer=registry_answers.Backends, errors=_LIST),
    ("POST", "/api/backends"): Doc(
        answer=registry_answers.BackendView,
        ok=(201,),
        errors=(*_BODY, 409),
        body=backends.BackendBody,
        example={"name": "desk", **_DESK},
    ),
    ("POST", "/api/backends/apply"): Doc(
        answer=registry_answers.AppliedRegistry,
        errors=(*_BODY, 404, 409),
        body=backends.RegistryBody,
        example={"backends": {"desk": _DESK}, "groups": {"fast": {"models": ["desk/qwen3"]}}, "dry_run": True},
    ),
    ("GET", "/api/backends/{backend}"): Doc(answer=registry_answers.BackendView, errors=(404, 422)),
    ("PATCH", "/api/backends/{backend}"): Doc(
        answer=registry_answers.BackendView,
        errors=(*_BODY, 404, 409),
        body=backends.BackendChange,
        example={"limits": {"calls": 2}},
    ),
    ("DELETE", "/api/backends/{backend}"): Doc(ok=(204,), errors=(400, 404, 409, 422)),
    ("GET", "/api/backends/{backend}/state"): Doc(answer=registry_answers.BackendStateView, errors=(404, 422)),
    ("POST", "/api/backends/{backend}/check"): Doc(
        answer=registry_answers.BackendStateView, errors=(400, 404, 409, 422, 503)
    ),
    ("POST", "/api/backends/{backend}/prune"): Doc(
        answer=registry_answers.PrunedView,
        errors=(*_BODY, 404, 409, 502, 503),
        body=models.PruneBody,
        example={"dry_run": True},
    ),
    ("GET", "/api/backends/{backend}/models/{model}"): Doc(answer=registry_answers.ModelView, errors=(404, 422)),
    ("PUT", "/api/backends/{backend}/models/{model}"): Doc(
        answer=registry_answers.ModelView,
        errors=(*_BODY, 404, 409),
        body=models.ModelBody,
        example={"price": {"input": 3, "output": 15}, "capabilities": {"context": 200_000}},
    ),
    ("DELETE", "/api/backends/{backend}/models/{model}"): Doc(ok=(204,), errors=(400, 404, 409, 422)),
    ("GET", "/api/models"): Doc(answer=registry_answers.ModelList, errors=(*_LIST, 404)),
    ("GET", "/api/groups"): Doc(answer=registry_answers.Groups, errors=_LIST),
    ("POST", "/api/groups"): Doc(
        answer=registry_answers.GroupView,
        ok=(201,),
        errors=(*_BODY, 409),
        body=backends.GroupBody,
        example={"name": "fast", "models": ["desk/qwen3", "claude/claude-haiku-4-5"], "policy": "order"},
    ),
    ("GET", "/api/groups/{group}"): Doc(answer=registry_answers.GroupView, errors=(404, 422)),
    ("PATCH", "/api/groups/{group}"): Doc(
        answer=registry_answers.GroupView,
        errors=(*_BODY, 404, 409),
        body=backends.GroupChange,
        example={"policy": "cheapest"},
    ),
    ("DELETE", "/api/groups/{group}"): Doc(ok=(204,), errors=(400, 404, 409, 422)),
    ("GET", "/api/pulls"): Doc(answer=registry_answers.Pulls, errors=_LIST),
    ("POST", "/api/pulls"): Doc(
        answer=registry_answers.PullView,
        ok=(202,),
        errors=(*_BODY, 404, 409, 503),
        body=models.PullBody,
        example={"backend": "desk", "model": "qwen3"},
    ),
    ("GET", "/api/pulls/{pull}"): Doc(answer=registry_answers.PullView, errors=(404, 422)),
    ("POST", "/api/pulls/{pull}/cancel"): Doc(answer=registry_answers.PullView, errors=(400, 404, 409, 422)),
}
