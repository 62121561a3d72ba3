"""The use case "answer by a link": makes signed links to waits, reads them back, answers with them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from engine.control.definitions import now_us
from engine.control.executions import ExecutionService
from engine.control.signing import read_signed, write_signed
from engine.core.errors import Conflict, InputRejected, InvalidInput, NotAllowed, NotFound
from engine.core.run.answers import fitting_problems
from engine.core.run.projection import ExecutionFacts, Wait
from engine.core.values import Json, compact_json

KEY_FILE = "signing.key"
LEAST_KEY_CHARS = 32
DEFAULT_S = 7 * 86_400.0
LONGEST_S = 400 * 86_400.0
MOST_VALUES = 10
MOST_CHARS = 2_000
"""What the values of a link may have together: they stand in its address."""

_PURPOSE = b"everstep.answer-link.1\n"
"""Stands before what is signed, so that the key may sign other things as well."""


def read_signing_key(configured: SecretStr | None, folder: Path) -> bytes:
    """Return the key that signs links: that of the settings, or one that is made once and kept in a file.

    Args:
        configured: The key of the settings; None = there is none.
        folder: Where the file is; every API of an installation has the same.

    Raises:
        InvalidInput: `config.invalid` if the key of the settings is too short to be one.
    """
    if configured is not None:
        text = configured.get_secret_value()
        if len(text) < LEAST_KEY_CHARS:
            raise InvalidInput(
                f"EVERSTEP_SIGNING_KEY has {len(text)} characters",
                code="config.invalid",
                hint=f"give it {LEAST_KEY_CHARS} or more, such as `openssl rand -hex 32` makes",
            )
        return text.encode()
    path = folder / KEY_FILE
    if not path.exists():
        _make_key_file(path)
    return path.read_bytes()


def _make_key_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_hex(32).encode())
        file.flush()
        os.fsync(file.fileno())
    try:
        # whole or not at all, and of several processes that begin at once the first one's counts
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a link permits: one answer to one wait, in somebody's name.

    Attributes:
        tenant: Tenant of the execution.
        execution_id: The execution.
        wait_id: The wait.
        expires_us: Until when it may be used, Unix microseconds.
        actor: In whose name it answers.
        values: What may be answered; None = whatever fits the wait.
        nonce: Tells two links to the same wait apart.
    """

    tenant: str
    execution_id: str
    wait_id: str
    expires_us: int
    actor: str
    values: tuple[Json, ...] | None
    nonce: str

    @property
    def key(self) -> str:
        """Key of the answer: the link may be used again, and counts once."""
        told = "\n".join((self.tenant, self.execution_id, self.wait_id, self.nonce))
        return f"link:{hashlib.sha256(told.encode()).hexdigest()[:40]}"


@dataclass(frozen=True, slots=True)
class Opened:
    """A link that somebody has opened.

    Attributes:
        link: The link.
        facts: The execution.
        wait: The wait.
    """

    link: Link
    facts: ExecutionFacts
    wait: Wait

    @property
    def is_open(self) -> bool:
        """Whether the wait still takes an answer."""
        return self.wait.closed_seq is None and not self.facts.settled


class LinkService:
    """Makes links and takes answers by them.

    Args:
        executions: Takes the answers.
        read_key: Returns the key that signs links; called once, when the first link is made or opened.
    """

    def __init__(self, executions: ExecutionService, read_key: Callable[[], bytes]) -> None:
        self._executions = executions
        self._read_key = read_key
        self._known_key: bytes | None = None

    async def make(
        self,
        execution_id: str,
        wait_id: str,
        *,
        tenant: str,
        actor: str,
        expires_s: float = DEFAULT_S,
        values: Sequence[Json] | None = None,
    ) -> tuple[str, Link]:
        """Make a link to an open wait.

        Args:
            execution_id: The execution.
            wait_id: The wait.
            tenant: Its tenant.
            actor: In whose name it answers.
            expires_s: For how many seconds it may be used.
            values: What may be answered; None = whatever fits the wait.

        Returns:
            The token that stands in the link, and what it permits.

        Raises:
            NotFound: `execution.not_found`.
            Conflict: `answer.not_waiting`.
            InvalidInput: `link.bad_option`, or `input.rejected` for a value that the wait would not take.
        """
        facts = (await self._executions.read(execution_id, tenant=tenant)).facts
        wait = await self._executions.store.find_wait(execution_id, wait_id, tenant=tenant)
        if wait is None or wait.closed_seq is not None or facts.settled:
            raise Conflict(
                f"execution {execution_id} does not wait for an answer: no wait {wait_id!r} is open",
                code="answer.not_waiting",
            )
        if not 0 < expires_s <= LONGEST_S:
            raise InvalidInput(
                f"a link cannot be good for {expires_s:g} s", code="link.bad_option", hint="at most 400 days"
            )
        if values is not None:
            _check_values(values, wait)
        link = Link(
            tenant=tenant,
            execution_id=execution_id,
            wait_id=wait_id,
            expires_us=now_us() + round(expires_s * 1e6),
            actor=actor,
            values=None if values is None else tuple(values),
            nonce=secrets.token_hex(8),
        )
        return _write(link, await self._key()), link

    async def open(self, token: str) -> Opened:
        """Read a token and look at its wait; changes nothing.

        Raises:
            NotAllowed: `link.invalid`, `link.expired`.
            NotFound: `link.gone` if the execution or its wait is no longer there.
        """
        link = _read(token, await self._key())
        if now_us() >= link.expires_us:
            raise NotAllowed("this link has expired", code="link.expired", hint="ask for a new one")
        try:
            facts = (await self._executions.read(link.execution_id, tenant=link.tenant)).facts
        except NotFound as error:
            raise _gone() from error
        wait = await self._executions.store.find_wait(link.execution_id, link.wait_id, tenant=link.tenant)
        if wait is None:
            raise _gone()
        return Opened(link, facts, wait)

    async def answer(self, token: str, value: Json) -> Opened:
        """Answer the wait of a link; a second time the first outcome comes again, whatever is answered then.

        Raises:
            NotAllowed: As `open`.
            NotFound: As `open`.
            InputRejected: `input.rejected` if the link or the wait does not take this answer.
            Conflict: As `ExecutionService.answer`.
            Unavailable: As `ExecutionService.answer`.
        """
        link = (await self.open(token)).link
        # by the rules of JSON: for Python, 1 is true
        if link.values is not None and fitting_problems(value, {"enum": list(link.values)}):
            raise InputRejected("this link does not permit this answer", code="input.rejected")
        await self._executions.answer(
            link.execution_id, value, tenant=link.tenant, key=link.key, wait_id=link.wait_id, actor=link.actor
        )
        return await self.open(token)

    async def _key(self) -> bytes:
        if self._known_key is None:
            self._known_key = await asyncio.to_thread(self._read_key)
        return self._known_key


def _check_values(values: Sequence[Json], wait: Wait) -> None:
    if not 1 <= len(values) <= MOST_VALUES or len(compact_json(list(values))) > MOST_CHARS:
        raise InvalidInput(
            f"a link offers 1 to {MOST_VALUES} values, of {MOST_CHARS:,} characters in all", code="link.bad_option"
        )
    problems = [text for value in values for text in fitting_problems(value, wait.schema)]
    if problems:
        raise InputRejected(
            f"a value of the link does not fit the wait {wait.wait_id!r}: {'; '.join(problems)}",
            code="input.rejected",
            details={"problems": problems, "schema": wait.schema},
        )


def _gone() -> NotFound:
    return NotFound("what this link asks about is no longer there", code="link.gone")


# --- tokens ----------------------------------------------------------------------------------------------------------


def _write(link: Link, key: bytes) -> str:
    values = None if link.values is None else list(link.values)
    told = [link.tenant, link.execution_id, link.wait_id, link.expires_us, link.actor, values, link.nonce]
    return write_signed(told, key, _PURPOSE)


def _read(token: str, key: bytes) -> Link:
    told = read_signed(token, key, _PURPOSE)
    if told is None:
        raise NotAllowed("this is no link of ours", code="link.invalid", hint="use the link as it was sent, whole")
    tenant, execution_id, wait_id, expires_us, actor, values, nonce = told
    return Link(
        tenant=tenant,
        execution_id=execution_id,
        wait_id=wait_id,
        expires_us=expires_us,
        actor=actor,
        values=None if values is None else tuple(values),
        nonce=nonce,
    )
