"""Sends mail through the operator's mail server; every repetition of a call has the same Message-ID."""

from __future__ import annotations

import asyncio
import contextlib
import email.message
import email.policy
import email.utils
import re
import smtplib
import socket
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import httpcore

from activities.net import make_ssl_context
from activities.tools.integrations.service import Service, in_one_line
from engine.control.integrations import MAIL_ADDRESS
from engine.core.errors import ToolError
from engine.core.values import Json
from engine.settings import IntegrationConfig

PORTS = {"starttls": 587, "implicit": 465, "none": 25}
OUR_NAME = "everstep.invalid"
"""What we greet as: the name of this machine is nobody's business."""
MAX_KEY_CHARS = 500

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


async def call(service: Service, arguments: Mapping[str, Any]) -> Json:
    """Send a mail to all of its receivers or to none.

    Args:
        service: The call.
        arguments: {to, from?, subject, body}.

    Returns:
        {success, message_id, to}.

    Raises:
        ToolError: tool.bad_arguments, tool.credentials, tool.address_refused, tool.unreachable, tool.timeout,
            tool.smtp_status if the server refuses, tool.bad_reply if it speaks something else.
    """
    config = service.config
    sender = _address(service, "from", arguments.get("from") or config.sender)
    given = arguments["to"]
    receivers = [_address(service, "to", item) for item in (given if isinstance(given, list) else [given])]
    receivers = list(dict.fromkeys(receivers))
    message_id = f"<{_key_text(service.context.key)}@{sender.rpartition('@')[2]}>"
    loop = asyncio.get_running_loop()
    content = await loop.run_in_executor(
        service.threads, _content, service, sender, receivers, message_id, arguments["subject"], arguments["body"]
    )
    password = service.secret(config.password_env) if config.user else ""

    port = config.port or PORTS[config.tls]
    try:
        addresses = await service.guard.resolve(config.host, port)
    except httpcore.ConnectError as error:
        raise _Told(service).unreachable(error) from error
    delivery = _Delivery(service, addresses, port, password)
    sending = loop.run_in_executor(service.threads, delivery.send, sender, receivers, content)
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        # the thread cannot be stopped, but it has nothing to talk to any more
        sending.add_done_callback(lambda ended: ended.exception())
        delivery.abort()
        raise
    return {"success": True, "message_id": message_id, "to": list(receivers)}


class _Connection(smtplib.SMTP):
    """A connection to addresses that the guard has let pass; certificates are still those of the host's name."""

    def __init__(self, config: IntegrationConfig, addresses: Sequence[str], port: int) -> None:
        self._addresses = addresses
        self._implicit = make_ssl_context() if config.tls == "implicit" else None
        # half of the time for each answer, so that silence before the mail is known as such
        super().__init__(local_hostname=OUR_NAME, timeout=config.timeout_s / 2)
        self._host = config.host  # whose certificate STARTTLS expects
        self._port = port

    def open(self) -> None:
        code, reply = self.connect(self._host, self._port)
        if code != 220:
            raise smtplib.SMTPResponseException(code, reply)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        failure: OSError | None = None
        for address in self._addresses:
            try:
                opened = socket.create_connection((address, port), timeout)
            except OSError as error:
                failure = error
                continue
            if self._implicit is None:
                return opened
            try:
                return self._implicit.wrap_socket(opened, server_hostname=host)
            except BaseException:
                opened.close()
                raise
        raise failure or OSError("the host has no address")


class _Delivery:
    """One mail on its way, in a thread."""

    def __init__(self, service: Service, addresses: Sequence[str], port: int, password: str) -> None:
        self._service = service
        self._told = _Told(service)
        self._password = password
        self._connection = _Connection(service.config, addresses, port)
        self._aborted = False

    def abort(self) -> None:
        """Break the connection."""
        self._aborted = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def send(self, sender: str, receivers: Sequence[str], content: bytes) -> None:
        """Deliver, unless somebody refuses.

        Raises:
            ToolError: Nothing was sent, or nobody knows whether it was.
        """
        handed_over = False
        try:
            connection = self._connection
            connection.open()
            if self._aborted:
                raise OSError("the call was cancelled")
            self._greet(connection)
            self._expect(connection.mail(sender), (250,), "the sender")
            for receiver in receivers:
                self._expect(connection.rcpt(receiver), (250, 251), f"the receiver {receiver}")
            if self._aborted:
                raise OSError("the call was cancelled")
            handed_over = True
            if connection.sock is not None:
                connection.sock.settimeout(self._service.config.timeout_s)
            self._expect(connection.data(content), (250,), "the mail")
        except ToolError:
            raise
        except smtplib.SMTPDataError as error:
            raise self._told.refused("the mail", error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPResponseException as error:
            raise self._told.refused("us", error.smtp_code, error.smtp_error) from error
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._told.failed(error, handed_over=handed_over) from error
        finally:
            self._leave()

    def _greet(self, connection: _Connection) -> None:
        config = self._service.config
        if config.tls == "starttls":
            connection.starttls(context=make_ssl_context())
        connection.ehlo_or_helo_if_needed()
        if not config.user:
            return
        try:
            connection.login(config.user, self._password)
        except smtplib.SMTPAuthenticationError as error:
            # what the server says may repeat what it was sent
            raise self._told.refused("the login", error.smtp_code, b"") from None

    def _expect(self, answer: tuple[int, bytes], wanted: tuple[int, ...], what: str) -> None:
        code, reply = answer
        if code not in wanted:
            raise self._told.refused(what, code, reply)

    def _leave(self) -> None:
        # the mail is on its way or it is not: how the server takes our leave does not change it
        with contextlib.suppress(smtplib.SMTPException, OSError, ValueError):
            if not self._aborted and self._connection.sock is not None:
                self._connection.sock.settimeout(2.0)
                self._connection.quit()
        self._connection.close()


class _Told:
    """The errors of a delivery."""

    def __init__(self, service: Service) -> None:
        config = service.config
        self._tool = service.tool
        self._where = f"{config.host}:{config.port or PORTS[config.tls]}"

    def refused(self, what: str, code: int, reply: bytes | str) -> ToolError:
        text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
        said = in_one_line(text, 300)
        if code < 200:
            return self._bad_reply()
        return ToolError(
            f"tool '{self._tool.name}': the mail server {self._where} refuses {what}: {code} {said}".rstrip(),
            code="tool.smtp_status",
            # servers answer so when they are busy, or know the sender too little yet; nothing was taken
            retryable=400 <= code < 500,
            details={"status": code},
        )

    def unreachable(self, error: Exception) -> ToolError:
        return ToolError(
            f"tool '{self._tool.name}': cannot connect to {self._where}: {in_one_line(str(error), 300)}",
            code="tool.unreachable",
            retryable=True,
        )

    def failed(self, error: Exception, *, handed_over: bool) -> ToolError:
        reason = in_one_line(str(error), 300) or type(error).__name__
        if isinstance(error, ssl.SSLError):
            return ToolError(
                f"tool '{self._tool.name}': no TLS with {self._where}: {reason}",
                code="tool.unreachable",
                hint='check `tls`, which is "starttls", "implicit" or "none", and the certificate of the server',
            )
        if type(error) in (smtplib.SMTPNotSupportedError, smtplib.SMTPException):
            return ToolError(
                f"tool '{self._tool.name}': {self._where} cannot do what is set: {reason}",
                code="tool.bad_reply",
                hint="check `tls` and `user`",
            )
        if isinstance(error, (UnicodeError, ValueError)):
            return self._bad_reply()
        timed_out = isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
        if handed_over:
            # it may have been taken: only a receiver that knows the Message-ID could tell
            return ToolError(
                f"tool '{self._tool.name}': {self._where} did not say whether it took the mail: {reason}",
                code="tool.timeout" if timed_out else "tool.unreachable",
                retryable=self._tool.repeatable,
            )
        if timed_out:
            return ToolError(
                f"tool '{self._tool.name}': {self._where} did not answer in time; nothing was sent",
                code="tool.timeout",
                retryable=True,
            )
        return self.unreachable(error)

    def _bad_reply(self) -> ToolError:
        return ToolError(
            f"tool '{self._tool.name}': {self._where} does not speak SMTP",
            code="tool.bad_reply",
            hint='check `port` and `tls`: 587 goes with "starttls", 465 with "implicit"',
        )


def _address(service: Service, name: str, text: str) -> str:
    """Return a mail address in ASCII.

    Raises:
        ToolError: `tool.bad_arguments` if it is none; a line break in it would be a header of the caller's making.
    """
    found = MAIL_ADDRESS.fullmatch(text)
    domain = text.rpartition("@")[2]
    try:
        ascii_domain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        found, ascii_domain = None, ""
    if found is None:
        raise ToolError(
            f"tool '{service.tool.name}': {name}: {in_one_line(text, 100)!r} is no mail address",
            code="tool.bad_arguments",
            hint="write it as name@host, without the person's name",
        )
    return f"{text.rpartition('@')[0]}@{ascii_domain}"


def _content(
    service: Service, sender: str, receivers: Sequence[str], message_id: str, subject: str, body: str
) -> bytes:
    if _CONTROL.search(subject):
        raise ToolError(
            f"tool '{service.tool.name}': subject: it has a line break or another control character",
            code="tool.bad_arguments",
        )
    message = email.message.EmailMessage(policy=email.policy.SMTP.clone(cte_type="7bit"))
    message["From"] = sender
    message["To"] = ", ".join(receivers)
    message["Subject"] = subject
    message["Date"] = email.utils.format_datetime(email.utils.localtime())
    message["Auto-Submitted"] = "auto-generated"
    try:
        message.set_content(body)
        head = f"Message-ID: {message_id}\r\n".encode("ascii")
        # the package would fold a long id, and encode its parts
        return head + message.as_bytes()
    except UnicodeError as error:
        raise ToolError(f"tool '{service.tool.name}': body: {error}", code="tool.bad_arguments") from error


def _key_text(key: str) -> str:
    """Return a call's key as the left side of a Message-ID."""
    return urllib.parse.quote(key, safe="!#$&'*+/=?^_`{|}~").replace(".", "%2E")[:MAX_KEY_CHARS]
