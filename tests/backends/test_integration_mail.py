"""Mail that is sent as a tool: against a mail server on loopback that says what the test wants."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.runner import ToolActivities
from engine.control.integrations import integration_contract
from engine.core.contracts.activities import ToolParams
from engine.core.plan.ir import ToolContract
from engine.settings import HttpConfig, IntegrationConfig, ToolsConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT, unused_port
from tests.backends.smtp_receiver import Mail, MailServer, mail_server

LOOPBACK = HttpConfig(allow=["127.0.0.1:*"])
PASSWORD = "s3cret-w0rd"
MAIL = {"to": "ada@example.org", "from": "robot@example.com", "subject": "Hello", "body": "Dear Ada,\n\nhow are you?\n"}


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with mail_server(MailServer()) as opened:
        yield opened


async def send(
    server: MailServer,
    arguments: dict[str, Any] | None = None,
    *,
    http: HttpConfig = LOOPBACK,
    key: str = "",
    contract: ToolContract | None = None,
    **settings: Any,
) -> Any:
    given: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "tls": "none", **settings}
    config = IntegrationConfig(**given)
    tool = contract or integration_contract("email", config)
    context = dataclasses.replace(CONTEXT, key=key or CONTEXT.key)
    # the mail server's time is up long before the call's
    params = ToolParams(context=context, tool=tool, arguments={**MAIL, **(arguments or {})}, timeout_s=60)
    activities = ToolActivities(ToolCatalog(), http, config=ToolsConfig(integrations={"email": config}))
    try:
        return (await ActivityEnvironment().run(activities.call, params)).output
    finally:
        await activities.aclose()


async def failure(server: MailServer, arguments: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    with pytest.raises(ApplicationError) as caught:
        await send(server, arguments, **options)
    body: dict[str, Any] = caught.value.details[0]
    assert PASSWORD not in json.dumps(body)
    return body


def text_of(mail: Mail) -> str:
    """Return the text of a mail, whose lines end on their way as the protocol wants."""
    text: str = mail.message.get_content()
    return text.replace("\r\n", "\n")


# --- what arrives ----------------------------------------------------------------------------------------------------


async def test_a_mail_arrives_whole(server: MailServer) -> None:
    output = await send(server)
    [mail] = server.mails
    assert (mail.sender, mail.receivers) == ("robot@example.com", ["ada@example.org"])
    assert mail.message["Subject"] == "Hello"
    assert mail.message["Date"].datetime is not None
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert text_of(mail) == MAIL["body"]
    assert output == {"success": True, "message_id": mail.message["Message-ID"], "to": ["ada@example.org"]}
    assert server.commands[-1].upper() == "QUIT"


async def test_a_repeated_call_has_the_same_message_id_and_another_call_another(server: MailServer) -> None:
    long = "0b6f9c1e-8c1f-4f0e-9a55-1c2d3e4f5a6b/main.3.do[17].then.0.retry..2<x>"
    for key in (long, long, "0b6f9c1e/main.4"):
        await send(server, key=key)
    ids = [mail.message["Message-ID"] for mail in server.mails]
    assert ids[0] == ids[1] != ids[2]
    assert ids[2] == "<0b6f9c1e/main%2E4@example.com>"
    heads = [mail.content.split(b"\r\n")[0] for mail in server.mails]
    # in one line and not encoded, however long it is
    assert heads == [f"Message-ID: {identifier}".encode() for identifier in ids]


async def test_other_scripts_and_lines_that_begin_with_a_point_arrive(server: MailServer) -> None:
    subject = " ".join(["Grüße"] * 20)
    body = ".\n..two\nGrüße, 世界\n" + "x" * 3_000 + "\n"
    await send(server, {"subject": subject, "body": body, "to": ["a@exämple.org", "b@example.org", "b@example.org"]})
    [mail] = server.mails
    assert mail.receivers == ["a@xn--exmple-cua.org", "b@example.org"]
    assert text_of(mail) == body
    assert mail.message["Subject"] == subject
    # the server did not say that it takes anything but ASCII
    assert mail.content.isascii()
    assert max(len(line) for line in mail.content.split(b"\r\n")) <= 998


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": "Hi\r\nBcc: eve@example.net"},
        {"subject": "Hi\nBcc: eve@example.net"},
        {"subject": "Hi\x00"},
        {"subject": "Hi\u2028Bcc: eve@example.net"},
        {"to": "ada@example.org\r\nRCPT TO:<eve@example.net>"},
        {"to": "ada@example.org, eve@example.net"},
        {"to": ["ada@example.org", "Eve <eve@example.net>"]},
        {"to": "nobody"},
        {"to": []},
        {"to": "a@"},
        {"from": "robot@example.com>\r\nDATA"},
        {"from": "röbot@example.com"},
        {"body": "\ud800"},
        {"bcc": "eve@example.net"},
    ],
    ids=str,
)
async def test_what_would_be_a_header_or_command_of_the_callers_making_is_refused(
    server: MailServer, wrong: dict[str, Any]
) -> None:
    assert (await failure(server, wrong))["code"] == "tool.bad_arguments"
    assert server.commands == []


async def test_signs_of_many_parts_may_stand_in_a_subject(server: MailServer) -> None:
    subject = "Dear 👩\u200d🚀,\u00a0hello"
    await send(server, {"subject": subject})
    assert server.mails[0].message["Subject"] == subject


async def test_a_sender_that_was_set_after_the_start_counts(server: MailServer) -> None:
    older = integration_contract("email", IntegrationConfig(host="mail.example"))
    body = await failure(server, {"from": "boss@example.com"}, contract=older, sender="robot@example.com")
    assert body["code"] == "tool.bad_arguments"
    assert server.commands == []


async def test_a_set_sender_is_the_only_one(server: MailServer) -> None:
    body = await failure(server, {"from": "boss@example.com"}, sender="robot@example.com")
    assert body["code"] == "tool.bad_arguments"
    assert server.commands == []
    await send(server, sender="robot@example.com")
    config = IntegrationConfig(host="mail.example", sender="robot@example.com")
    assert "from" not in integration_contract("email", config).parameters["required"]


# --- what the server says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "answer", "retryable"),
    [
        ("GREETING", "421 too busy", True),
        ("GREETING", "554 go away", False),
        ("MAIL", "550 not from you", False),
        ("RCPT", "450 grey", True),
        ("RCPT", "550 unknown", False),
        ("DATA", "451 later", True),
        ("CONTENT", "554 spam", False),
        ("CONTENT", "452 full", True),
    ],
)
async def test_a_refusal_is_told_and_those_of_the_moment_may_be_tried_again(
    server: MailServer, command: str, answer: str, retryable: bool
) -> None:
    server.answers[command] = answer
    body = await failure(server)
    assert (body["code"], body["retryable"]) == ("tool.smtp_status", retryable)
    assert body["details"]["status"] == int(answer[:3])
    assert answer in body["message"]
    assert server.mails == []


async def test_one_receiver_who_is_refused_keeps_the_mail_from_all(server: MailServer) -> None:
    server.answers["RCPT TO:<EVE"] = "550 unknown"
    body = await failure(server, {"to": ["ada@example.org", "eve@example.net"]})
    assert "eve@example.net" in body["message"]
    assert server.mails == []
    assert "DATA" not in [command.upper() for command in server.commands]


async def test_a_server_that_goes_before_it_had_the_mail_may_be_tried_again(server: MailServer) -> None:
    server.drops = "RCPT"
    body = await failure(server)
    assert (body["code"], body["retryable"]) == ("tool.unreachable", True)


async def test_a_server_that_goes_with_the_mail_in_hand_is_not_asked_again(server: MailServer) -> None:
    server.drops = "CONTENT"
    body = await failure(server)
    assert (body["code"], body["retryable"]) == ("tool.unreachable", False)
    assert "did not say whether it took the mail" in body["message"]
    assert len(server.mails) == 1


async def test_silence_before_the_mail_is_a_timeout_that_may_be_tried_again(server: MailServer) -> None:
    server.silent = "MAIL"
    body = await failure(server, timeout_s=0.4)
    assert (body["code"], body["retryable"]) == ("tool.timeout", True)
    assert "nothing was sent" in body["message"]


async def test_silence_after_the_mail_is_a_timeout_that_may_not(server: MailServer) -> None:
    server.silent = "CONTENT"
    body = await failure(server, timeout_s=2)
    assert (body["code"], body["retryable"]) == ("tool.timeout", False)


async def test_a_cancel_breaks_the_connection(server: MailServer) -> None:
    server.silent = "MAIL"
    sending = asyncio.create_task(send(server))
    async with asyncio.timeout(30):
        while not any(command.startswith("mail") for command in server.commands):
            await server.heard.wait()
            server.heard.clear()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        # well before the fifteen seconds after which the sender would give up by itself
        await server.hung_up.wait()
    assert server.mails == []


@pytest.mark.parametrize("greeting", ["HTTP/1.1 400 Bad Request", "SSH-2.0-x", "", "100 go on"])
async def test_another_protocol_is_a_bad_reply(server: MailServer, greeting: str) -> None:
    server.answers["GREETING"] = greeting
    body = await failure(server)
    assert (body["code"], body["retryable"]) == ("tool.bad_reply", False)


async def test_nobody_there_is_unreachable(server: MailServer) -> None:
    with unused_port() as port:
        body = await failure(server, port=port)
    assert (body["code"], body["retryable"]) == ("tool.unreachable", True)


async def test_a_private_mail_server_has_to_be_allowed(server: MailServer) -> None:
    for host in ("127.0.0.1", "localhost", "2130706433"):
        body = await failure(server, http=HttpConfig(), host=host)
        assert body["code"] == "tool.address_refused"
    assert server.commands == []


# --- encryption and login --------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate of 127.0.0.1 that senders trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = tmp_path / "mail.pem", tmp_path / "mail.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context


LOGIN: dict[str, Any] = {"user": "robot", "password_env": "MAIL_PASSWORD"}


async def test_a_login_goes_over_starttls(certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    async with mail_server(MailServer(tls=certificate, logins={f"robot:{PASSWORD}"})) as server:
        await send(server, tls="starttls", **LOGIN)
    assert (len(server.mails), server.encrypted) == (1, [True])
    words = [command.split()[0].upper() for command in server.commands]
    assert words.index("STARTTLS") < words.index("AUTH") < words.index("MAIL")


async def test_a_mail_goes_over_tls_from_the_first_byte(certificate: ssl.SSLContext) -> None:
    async with mail_server(MailServer(), implicit=certificate) as server:
        await send(server, tls="implicit")
    assert (len(server.mails), server.encrypted) == (1, [True])


async def test_a_wrong_password_is_told_without_it(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    async with mail_server(MailServer(tls=certificate, logins={"robot:other"})) as server:
        body = await failure(server, tls="starttls", **LOGIN)
    assert (body["code"], body["details"], body["retryable"]) == ("tool.smtp_status", {"status": 535}, False)
    # the server repeats the whole command, which holds it in base64
    assert "AUTH" not in json.dumps(body)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    async with mail_server(MailServer(tls=certificate, logins=set())) as server:
        body = await failure(server, tls="starttls", **LOGIN)
    assert (body["code"], body["retryable"]) == ("tool.unreachable", False)
    assert not any("AUTH" in command for command in server.commands)


async def test_a_server_without_starttls_gets_neither_password_nor_mail(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    server.logins = {f"robot:{PASSWORD}"}
    body = await failure(server, tls="starttls", **LOGIN)
    assert body["code"] == "tool.bad_reply"
    assert [command.split()[0].upper() for command in server.commands] == ["EHLO", "QUIT"]


async def test_a_password_that_is_not_set_is_told_by_its_variable(server: MailServer) -> None:
    body = await failure(server, **LOGIN)
    assert body["code"] == "tool.credentials"
    assert "MAIL_PASSWORD" in body["message"]
    assert server.commands == []
