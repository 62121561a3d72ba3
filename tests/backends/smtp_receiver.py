"""A mail server on loopback for tests: speaks as much SMTP as senders need, and says what a test wants it to say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage


@dataclass
class Mail:
    """A mail that was taken."""

    sender: str
    receivers: list[str]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail, read."""
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class MailServer:
    """See the module.

    Attributes:
        answers: What it says instead of yes, by the beginning of the command; `GREETING` and `CONTENT` are commands.
        silent: Beginning of the command that gets no answer.
        drops: Beginning of the command at which it hangs up.
        tls: For STARTTLS.
        logins: `user:password` that it knows; None = it asks for none.
    """

    answers: dict[str, str] = field(default_factory=dict)
    silent: str = "-"
    drops: str = "-"
    tls: ssl.SSLContext | None = None
    logins: set[str] | None = None
    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._session(reader, writer)
        self.hung_up.set()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mail = Mail("", [], b"")
        if not await self._answer(reader, writer, "GREETING", "220 mail.test ready"):
            return
        while line := (await reader.readline()).decode().rstrip("\r\n"):
            self.commands.append(line)
            word = line.upper()
            if word.startswith("EHLO"):
                more = (["STARTTLS"] if self.tls and not self._is_encrypted(writer) else []) + (
                    ["AUTH PLAIN"] if self.logins is not None else []
                )
                lines = ["mail.test", *more]
                usual = "\r\n".join(
                    f"250{'-' if index < len(lines) - 1 else ' '}{text}" for index, text in enumerate(lines)
                )
            elif word == "STARTTLS":
                assert self.tls is not None
                writer.write(b"220 go on\r\n")
                await writer.start_tls(self.tls)
                continue
            elif word.startswith("AUTH PLAIN"):
                _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
                good = f"{user}:{password}" in (self.logins or set())
                usual = "235 welcome" if good else f"535 not you: {line} {password}"
            elif word.startswith("MAIL FROM"):
                mail = Mail(_address(line), [], b"")
                usual = "250 ok"
            elif word.startswith("RCPT TO"):
                mail.receivers.append(_address(line))
                usual = "250 ok"
            elif word == "DATA":
                if not await self._answer(reader, writer, "DATA", "354 go on"):
                    return
                if "DATA" in self.answers:
                    continue
                mail.content = await _content(reader)
                self.encrypted.append(self._is_encrypted(writer))
                if "CONTENT" not in self.answers:
                    self.mails.append(mail)
                if not await self._answer(reader, writer, "CONTENT", "250 taken"):
                    return
                continue
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                usual = "250 ok"
            if not await self._answer(reader, writer, word, usual):
                return

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str, usual: str
    ) -> bool:
        self.heard.set()
        if command.startswith(self.drops):
            writer.transport.abort()
            return False
        if command.startswith(self.silent):
            await reader.read()  # until the other side gives up
            return False
        said = next((text for start, text in self.answers.items() if command.startswith(start)), usual)
        writer.write(said.encode() + b"\r\n")
        await writer.drain()
        return True

    def _is_encrypted(self, writer: asyncio.StreamWriter) -> bool:
        return writer.get_extra_info("ssl_object") is not None


def _address(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]


async def _content(reader: asyncio.StreamReader) -> bytes:
    lines: list[bytes] = []
    while (line := await reader.readline()) != b".\r\n":
        assert line, "the sender hung up in the middle of a mail"
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


@asynccontextmanager
async def mail_server(server: MailServer, *, implicit: ssl.SSLContext | None = None) -> AsyncIterator[MailServer]:
    """Serve on a free port of loopback; `implicit` encrypts from the first byte on."""
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=implicit)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()
