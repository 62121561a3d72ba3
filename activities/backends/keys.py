"""The key that a backend asks for: read anew for each call, and taken out of what the backend answers."""

from __future__ import annotations

import os

from activities.backends.base import ReadSecret
from engine.core.errors import BackendError, SecretError
from engine.obs.redaction import Mask
from engine.settings import BackendConfig

SENT_KEYS = 2
"""Keys before the present one that are taken out of answers."""


class BackendKey:
    """The key of one backend.

    Attributes:
        mask: Takes the keys that were sent out of texts.
    """

    def __init__(self, backend: str, config: BackendConfig, read_secret: ReadSecret | None) -> None:
        """Prepare the key; nothing is read yet.

        Args:
            backend: Name of the backend.
            config: What the operator says of it.
            read_secret: Reads a secret of the operator's tenant; None = keys are in variables only.
        """
        self.mask = Mask(())
        self._backend = backend
        self._config = config
        self._read_secret = read_secret
        self._sent: list[str] = []

    async def read(self) -> str:
        """Return the key that is to be sent now; empty if the backend asks for none.

        Raises:
            BackendError: `backend.auth` if there is none where it should be.
        """
        key = await self._stored() if self._config.api_key_secret else self._of_variable()
        if key and key not in self._sent:
            # a server may show what it was sent; of those before, answers may still come
            self._sent = [key, *self._sent[:SENT_KEYS]]
            self.mask = Mask(self._sent)
        return key

    def _of_variable(self) -> str:
        variable = self._config.api_key_env
        if not variable:
            return ""
        # looked up per call, so that a key never stands in a value that could be printed
        key = os.environ.get(variable, "").strip()
        if not key or not key.isascii():
            state = "is not set" if not key else "holds something that is not ASCII"
            raise BackendError(
                f"backend '{self._backend}' needs a key, but the environment variable {variable} {state}",
                code="backend.auth",
                hint=f"set {variable} where the worker is started",
                details={"backend": self._backend},
            )
        return key

    async def _stored(self) -> str:
        name = self._config.api_key_secret
        try:
            if self._read_secret is None:
                raise SecretError("this process reads no secrets", code="secret.missing")
            # read per call, as variables are: a changed one counts at once
            key = (await self._read_secret(name)).get_secret_value().strip()
        except SecretError as error:
            raise self._missing(f"the secret '{name}', which cannot be read: {error.message}", error.hint) from error
        if not key.isascii() or not key.isprintable():
            raise self._missing(f"the secret '{name}', which holds something that is not ASCII", "set it again")
        return key

    def _missing(self, what: str, hint: str) -> BackendError:
        return BackendError(
            f"backend '{self._backend}' needs a key: {what}",
            code="backend.auth",
            hint=hint,
            details={"backend": self._backend},
        )
