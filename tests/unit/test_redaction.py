"""What takes secrets out of texts, bodies and log lines, in whatever way they are written there."""

from __future__ import annotations

import base64
import html
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import structlog
from pydantic import SecretStr

from engine.control.known import known_secrets
from engine.core.errors import AuthorityError, EngineError, SecretError, ToolError
from engine.obs.logs import configure_logging, redactor_in_use
from engine.obs.redaction import MOST_KNOWN, Mask, Redactor
from engine.settings import (
    BackendConfig,
    CredentialConfig,
    IntegrationConfig,
    OpenApiConfig,
    Project,
    Settings,
    ToolsConfig,
)

SECRET = "p'ä<s>s/w+rd=\"1&2\\3\n and more of it"
PLAIN = "c4nary-of-Ada"


def wrapped(before: int) -> str:
    """Return base64 of a text with the secret in it, so many bytes from its beginning."""
    return base64.b64encode(f"{'x' * before}{PLAIN}yz".encode()).decode()


@pytest.mark.parametrize("secret", [SECRET, PLAIN, "12345678", "  padded value  "])
@pytest.mark.parametrize(
    "write",
    [
        lambda text: text,
        lambda text: json.dumps({"x": text}),
        lambda text: json.dumps(text, ensure_ascii=False),
        lambda text: repr(text),
        lambda text: quote(text),
        lambda text: quote(text, safe=""),
        lambda text: quote_plus(text),
        lambda text: html.escape(text),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"ada:{text}".encode()).decode(),
        lambda text: base64.urlsafe_b64encode(f"12{text}!".encode()).decode(),
        lambda text: text.encode().hex(),
        lambda text: text.strip(),
    ],
)
def test_a_secret_is_found_however_it_is_written(secret: str, write: object) -> None:
    assert callable(write)
    told = f"before {write(secret)} after"
    mask = Mask([secret])
    assert mask.text(told) != told
    assert mask.bytes(told.encode()) == mask.text(told).encode()
    for form in (secret, secret[2:], base64.b64encode(secret.encode()).decode()[4:-4]):
        assert form not in mask.text(told)
    assert mask.text(told).startswith("before ")
    assert mask.text(told).endswith(" after")


@pytest.mark.parametrize("before", range(7))
def test_a_secret_inside_of_something_that_is_encoded_is_found_wherever_it_begins(before: int) -> None:
    clean = Mask([PLAIN]).text(wrapped(before))
    assert "***" in clean
    # what is left are the bytes around it, and of the secret what shares a letter with these
    assert len(clean) <= len(wrapped(before)) - 13


def test_json_is_cleaned_in_names_and_values_and_keeps_its_shape() -> None:
    value = {"a": [1, None, f"x{PLAIN}", {PLAIN: True}], "b": 2.5}
    assert Mask([PLAIN]).json(value) == {"a": [1, None, "x***", {"***": True}], "b": 2.5}
    assert Mask(["ab"]).json(value) is value


@pytest.mark.parametrize("kind", [ToolError, SecretError, AuthorityError])
def test_an_error_stays_what_it_is_without_the_secret(kind: type[EngineError]) -> None:
    error = kind(f"with {PLAIN}", code="tool.x", hint=f"not {PLAIN}", retryable=True, details={"body": [PLAIN], "n": 1})
    clean = Mask([PLAIN]).error(error)
    assert type(clean) is kind
    assert (clean.code, clean.retryable, clean.details) == ("tool.x", True, {"body": ["***"], "n": 1})
    assert (clean.message, clean.hint, str(clean)) == ("with ***", "not ***", "with ***")
    # who holds the first one still has it as it was
    assert PLAIN in error.message


@pytest.mark.parametrize("length", range(4, len(PLAIN)))
@pytest.mark.parametrize("end", ["", "…"])
def test_the_beginning_of_a_secret_that_was_cut_off_is_taken_out_too(length: int, end: str) -> None:
    clean = Mask([PLAIN]).error(ToolError(f"it said {PLAIN[:length]}{end}"))
    assert clean.message == f"it said ***{end}"


def test_every_line_of_a_key_of_several_lines_is_found() -> None:
    lines = ["-----BEGIN KEY-----", "MIIEpAIBAAKCAQEA7x", "Qm9iIHdhcyBoZXJlLg", "-----END KEY-----"]
    clean = Mask(["\n".join(lines)]).text(f"line 2: {lines[1]}\r\nline 3: {lines[2]}\r\n")
    assert clean == "line 2: ***\r\nline 3: ***\r\n"


# --- log lines -----------------------------------------------------------------------------------------------------


@pytest.fixture
def _own_logging() -> Iterator[None]:
    """Leave logging as it was afterwards."""
    root = logging.getLogger()
    before, level, ours = list(root.handlers), root.level, structlog.get_config()
    yield
    structlog.configure(**ours)
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize("as_json", [False, True])
def test_no_line_of_a_log_shows_what_is_known_or_looks_like_a_credential(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug", as_json).learn([PLAIN])
    ours = structlog.get_logger("test")
    ours.info(f"event with {PLAIN}", key=f"x{PLAIN}", deep={"a": [PLAIN]})
    ours.info("sent", headers={"Authorization": "unknown-1", "X-Api-Key": "unknown-2", "Accept": "seen-1"})
    ours.info("sent", headers=[("cookie", "unknown-3"), (b"accept", b"seen-2")], password="unknown-4")
    ours.info("sent with Authorization: Bearer unknown-token-5 to https://ada:unknown-6@example.com/seen-3")
    try:
        raise ValueError(f"raised with {PLAIN}")
    except ValueError:
        ours.exception("failed")
        logging.getLogger("theirs").exception("of %s", PLAIN)
    logging.getLogger("theirs").warning("Basic dW5rbm93bjp1bmtub3du and %r", {"token": PLAIN})
    told = capsys.readouterr().err
    assert PLAIN not in told
    assert "unknown-" not in told
    assert "dW5rbm93bjp1bmtub3du" not in told
    assert all(f"seen-{number}" in told for number in (1, 2, 3))
    assert "raised with ***" in told
    if as_json:
        assert [json.loads(line) for line in told.splitlines()]


@pytest.mark.usefixtures("_own_logging")
def test_whoever_reads_secrets_finds_the_redactor_of_the_process() -> None:
    made = configure_logging()
    assert redactor_in_use() is made
    redactor_in_use().learn([PLAIN])
    assert made.text(PLAIN) == "***"
    assert PLAIN not in repr(made)


def test_a_process_remembers_a_bounded_number_of_values_and_forgets_the_oldest() -> None:
    redactor = Redactor()
    redactor.learn([f"value-{number:05}" for number in range(MOST_KNOWN)])
    redactor.learn(["value-00000", "another-one"])
    assert redactor.text("value-00000 value-00001 another-one") == "*** value-00001 ***"


def test_what_a_process_was_started_with_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = ["A_KEY", "B_PASSWORD", "C_BEARER", "D_KEY", "AWS_SECRET_ACCESS_KEY"]
    for name in named:
        monkeypatch.setenv(name, f"value-of-{name}")
    monkeypatch.setenv("NOBODYS", "value-of-nobody")
    openapi = OpenApiConfig(
        document="x", auth=[CredentialConfig(bearer_env="C_BEARER"), CredentialConfig(header="X", env="D_KEY")]
    )
    tools = ToolsConfig(integrations={"mail": IntegrationConfig(password_env="B_PASSWORD")}, openapi={"x": openapi})
    project = Project(backends={"a": BackendConfig(base_url="http://a", api_key_env="A_KEY")}, tools=tools)
    key = base64.b64encode(bytes(32)).decode()
    settings = Settings(
        data_dir=tmp_path,
        api_key=SecretStr("the-api-key"),
        encryption_keys=SecretStr(f"one:{key}"),
        database_url="postgresql://ada:the-password@db/x",
    )
    known = known_secrets(settings, project)
    assert {"the-api-key", key, "the-password", *(f"value-of-{name}" for name in named)} <= set(known)
    assert "value-of-nobody" not in known
    assert "" not in known
