"""The use case "answer by a task token": a signed text for each open wait, by which whoever has it goes on with it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from engine.control.executions import ExecutionService
from engine.control.signing import read_signed, write_signed
from engine.core.errors import NotAllowed
from engine.core.run.projection import ExecutionFacts
from engine.core.values import Json

ANSWERED_BY = "task token"
"""Who answered, where a token came without anybody's name."""

_PURPOSE = b"everstep.task-token.1\n"


@dataclass(frozen=True, slots=True)
class TokenMaker:
    """Makes task tokens; two of one key are equal, so that what they made can be kept.

    Attributes:
        key: The key that signs.
    """

    key: bytes

    def token_for(self, execution_id: str, wait_id: str, *, tenant: str) -> str:
        """Return the token of a wait, which is always the same and is good as long as the wait is open."""
        return write_signed([tenant, execution_id, wait_id], self.key, _PURPOSE)


class TaskTokenService:
    """Makes task tokens and takes answers by them.

    Args:
        executions: Takes the answers.
        read_key: Returns the key that signs links, which signs tokens too; called once, when it is first needed.
    """

    def __init__(self, executions: ExecutionService, read_key: Callable[[], bytes]) -> None:
        self._executions = executions
        self._read_key = read_key
        self._maker: TokenMaker | None = None

    async def maker(self) -> TokenMaker:
        """Return what makes tokens."""
        if self._maker is None:
            self._maker = TokenMaker(await asyncio.to_thread(self._read_key))
        return self._maker

    async def answer(
        self, token: str, value: Json, *, tenant: str | None = None, task_id: str = "", actor: str = ""
    ) -> ExecutionFacts:
        """Answer the wait of a token; a second time the first outcome comes again, whatever is answered then.

        Args:
            token: The token.
            value: The answer.
            tenant: Tenant of the caller; None = the token is all that the caller has.
            task_id: The task whose execution it must be; empty = any.
            actor: Who answers.

        Returns:
            The execution after the answer.

        Raises:
            NotAllowed: `task_token.invalid`, also if it is one of another tenant or task.
            NotFound: `execution.not_found` if it is not there any more.
            InputRejected: As `ExecutionService.answer`.
            Conflict: As `ExecutionService.answer`.
            Unavailable: As `ExecutionService.answer`.
        """
        told = read_signed(token, (await self.maker()).key, _PURPOSE)
        if told is None or tenant not in (None, told[0]):
            raise _invalid()
        owner, execution_id, wait_id = told
        facts = await self._executions.store.get_execution(execution_id, tenant=owner)
        if task_id and facts.task_id != task_id:
            raise _invalid()
        key = f"task-token:{hashlib.sha256(token.encode()).hexdigest()[:40]}"
        return await self._executions.answer(
            execution_id, value, tenant=owner, key=key, wait_id=wait_id, actor=actor or ANSWERED_BY
        )


def _invalid() -> NotAllowed:
    return NotAllowed(
        "this is no task token of ours",
        code="task_token.invalid",
        hint="take `task_token` out of the metadata of the `wait` transition as it is, whole",
    )
