"""Makes calls one after another for a process that asks on standard input: how tests of tasks record real replies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any, TextIO

from pydantic import TypeAdapter
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.embedding import Embedder
from activities.llm import ChatActivities
from activities.lookups import LookupActivities
from activities.tools.runner import ToolActivities
from engine.control.tools import load_catalog
from engine.core.contracts.activities import ChatParams, ToolParams
from engine.core.contracts.lookups import EmbedParams, SearchParams
from engine.settings import Settings, load_project
from engine.store.database import open_database
from engine.store.docs import DocStore

_CHAT: TypeAdapter[ChatParams] = TypeAdapter(ChatParams)
_TOOL: TypeAdapter[ToolParams] = TypeAdapter(ToolParams)
_EMBED: TypeAdapter[EmbedParams] = TypeAdapter(EmbedParams)
_SEARCH: TypeAdapter[SearchParams] = TypeAdapter(SearchParams)


async def run_calls(settings: Settings) -> None:
    """Make the calls that come in on standard input, without Temporal, until it ends.

    Raises:
        EngineError: The configuration is wrong.
    """
    out = sys.stdout
    # what tools and their modules print must not get between the answers
    with contextlib.redirect_stdout(sys.stderr):
        project = load_project(settings.project_file)
        chat = ChatActivities.of(project)
        catalog = load_catalog(project, settings.data_dir)
        tools = ToolActivities(catalog, project.http, config=project.tools, folder=project.folder)
        async with contextlib.AsyncExitStack() as opened:

            async def open_docs() -> DocStore:
                database = await open_database(settings.store_url)
                opened.push_async_callback(database.close)
                return DocStore(database)

            lookups = LookupActivities(Embedder(chat), open_docs)
            try:
                await serve_calls(chat, tools, lookups, out)
            finally:
                await chat.aclose()
                await tools.aclose()
                lookups.close()


async def serve_calls(chat: ChatActivities, tools: ToolActivities, lookups: LookupActivities, out: TextIO) -> None:
    """Answer one JSON line on standard input with another until the input ends.

    Its own first line is {"ready": true}, so that nobody takes the start of this process for the time of a call.
    In: {"kind": "chat" | "tool" | "embed" | "search", "params": ChatParams, ToolParams, EmbedParams or SearchParams}.
    Out: {"value": …}, what the step gets, or {"error": failure body}.

    Args:
        chat: The chat activity.
        tools: The tool activity.
        lookups: The activities of vectors and documents.
        out: Where answers go; nothing else may be written there.
    """
    out.write(f"{json.dumps({'ready': True})}\n")
    out.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer = await _answer(json.loads(line), chat, tools, lookups)
        out.write(f"{json.dumps(answer)}\n")
        out.flush()


async def _answer(
    question: dict[str, Any], chat: ChatActivities, tools: ToolActivities, lookups: LookupActivities
) -> dict[str, Any]:
    # outside of a worker the activities need an environment for their heartbeats
    environment = ActivityEnvironment()
    try:
        if question["kind"] == "chat":
            reply = await environment.run(chat.chat, _CHAT.validate_python(question["params"]))
            return {"value": reply.to_json()}
        if question["kind"] == "embed":
            return {"value": await environment.run(lookups.embed, _EMBED.validate_python(question["params"]))}
        if question["kind"] == "search":
            return {"value": await environment.run(lookups.search, _SEARCH.validate_python(question["params"]))}
        result = await environment.run(tools.call, _TOOL.validate_python(question["params"]))
        return {"value": result.output}
    except ApplicationError as error:
        return {"error": error.details[0]}
