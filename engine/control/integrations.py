"""The shipped tools: what each provider takes and needs, and the contracts of those that the operator switched on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.settings import IntegrationConfig
from engine.tooling.reading import TOOL_NAME

MAIL_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[^\s<>()\[\],;:@\\\"\x00-\x1f\x7f]{1,253}")
"""A mail address; its domain may be written in any script."""
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_COMMON: Final = frozenset({"provider", "timeout_s", "max_chars"})
_TEXT: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 300, "pattern": r"\S"}


def _schema(required: tuple[str, ...], **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name.rstrip("_"): dict(about) for name, about in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A kind of shipped tool.

    Attributes:
        description: For models and people.
        parameters: JSON Schema of the arguments.
        base_url: Address of the public service; empty = it has none.
        needs: Settings without which it does not work.
        takes: Further settings, beside those that all take.
        effect: What it does to the world.
        spec: What its contracts say beside name and provider.
    """

    description: str
    parameters: dict[str, Any]
    base_url: str = ""
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    effect: ToolEffect = ToolEffect.READ
    spec: dict[str, Any] = field(default_factory=dict)


PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        "wikipedia": Provider(
            description="Search Wikipedia; gives the introductions of the articles that fit best.",
            base_url="https://en.wikipedia.org/w",
            parameters=_schema(
                ("query",),
                query={**_TEXT, "description": "What to look for."},
                load_max_docs={
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 10,
                    "default": 2,
                    "description": "Most articles.",
                },
            ),
        ),
        "arxiv": Provider(
            description="Search papers on arXiv; gives titles, authors and abstracts. Takes a query, ids, or both.",
            base_url="https://export.arxiv.org/api",
            parameters={
                **_schema(
                    (),
                    query={
                        **_TEXT,
                        "description": "Words, or fields such as `au:curie AND ti:radium`; with id_list it filters.",
                    },
                    id_list={
                        "type": "array",
                        "items": {"type": "string", "pattern": r"^[A-Za-z0-9./-]{1,40}$"},
                        "minItems": 1,
                        "maxItems": 50,
                        "description": "Ids such as 1706.03762 or hep-th/9901001.",
                    },
                    max_results={"type": "integer", "minimum": 1, "maximum": 50, "default": 5},
                    sort_by={"enum": ["relevance", "lastUpdatedDate", "submittedDate"], "default": "relevance"},
                    sort_order={"enum": ["ascending", "descending"], "default": "descending"},
                ),
                "anyOf": [{"required": ["query"]}, {"required": ["id_list"]}],
            },
        ),
        "brave": Provider(
            description="Search the web; gives titles, addresses and short extracts of pages.",
            base_url="https://api.search.brave.com/res/v1",
            needs=("api_key_env",),
            parameters=_schema(
                ("query",),
                query={**_TEXT, "description": "What to look for."},
                count={"type": "integer", "minimum": 1, "maximum": 20, "default": 5, "description": "Most results."},
            ),
        ),
        "weather": Provider(
            description="Tell the present weather at a place.",
            base_url="https://api.openweathermap.org/data/2.5",
            needs=("api_key_env",),
            parameters=_schema(
                ("location",),
                location={**_TEXT, "description": "A town, with its country if need be: `Paris` or `Paris,US`."},
            ),
        ),
        "email": Provider(
            description="Send an e-mail of plain text.",
            needs=("host",),
            takes=("port", "tls", "user", "password_env", "sender"),
            effect=ToolEffect.WRITE,
            parameters=_schema(
                ("to", "from", "subject", "body"),
                to={
                    "anyOf": [
                        {"type": "string"},
                        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 50},
                    ],
                    "description": "Addresses of the receivers.",
                },
                from_={"type": "string", "description": "Address of the sender."},
                subject={"type": "string", "maxLength": 500},
                body={"type": "string", "maxLength": 1_000_000, "description": "Plain text."},
            ),
        ),
        "web": Provider(
            description="Fetch a page of the web; gives its readable text as Markdown, with links and headings.",
            # where redirects lead is compared with `allow.hosts` of the task as well
            spec={"follow_redirects": True},
            parameters=_schema(
                ("url",),
                url={"type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://\S+$", "maxLength": 4_000},
                start={
                    "type": "integer",
                    "minimum": 0,
                    "default": 0,
                    "description": "Character at which to begin: `next_start` of the part before.",
                },
            ),
        ),
    }
)
"""The shipped tools by provider."""


def integration_contracts(integrations: Mapping[str, IntegrationConfig]) -> dict[str, ToolContract]:
    """Return the contracts of the integrations that are switched on.

    Args:
        integrations: Those of everstep.toml by name.

    Raises:
        InvalidInput: `config.integration` if one of them cannot work as it is set up.
    """
    return {name: integration_contract(name, config) for name, config in integrations.items()}


def integration_contract(name: str, config: IntegrationConfig) -> ToolContract:
    """Return the contract of an integration.

    Args:
        name: The name by which steps call it.
        config: Its settings.

    Raises:
        InvalidInput: `config.integration`.
    """
    named = config.provider or name
    provider = PROVIDERS.get(named)
    if provider is None:
        hint = did_you_mean(named, PROVIDERS) or f"providers are {', '.join(sorted(PROVIDERS))}"
        raise _refused(name, f"there is no provider '{named}'", hint)
    if not TOOL_NAME.match(name):
        raise _refused(name, "models cannot call it by this name", "use letters, digits, _ and -, at most 64")
    _check_settings(name, named, provider, config)
    return ToolContract(
        name=name,
        type="integration",
        parameters=_parameters(provider, config),
        effect=provider.effect,
        description=provider.description,
        timeout_s=config.timeout_s,
        spec={"provider": named, "integration": name, **provider.spec},
    )


def base_url_of(config: IntegrationConfig, provider: str) -> str:
    """Return the address of an integration's service, without a slash at its end."""
    return (config.base_url or PROVIDERS[provider].base_url).rstrip("/")


def _parameters(provider: Provider, config: IntegrationConfig) -> dict[str, Any]:
    if not config.sender:
        return provider.parameters
    # whoever writes the mail, a model above all, may not choose in whose name
    properties = {**provider.parameters["properties"], "from": {"const": config.sender}}
    required = [item for item in provider.parameters["required"] if item != "from"]
    return {**provider.parameters, "properties": properties, "required": required}


def _check_settings(name: str, named: str, provider: Provider, config: IntegrationConfig) -> None:
    known = {*_COMMON, *provider.needs, *provider.takes, *(("base_url",) if provider.base_url else ())}
    for key in sorted(config.model_fields_set - known):
        raise _refused(name, f"the provider '{named}' takes no {key}", f"it takes {', '.join(sorted(known))}")
    for key in provider.needs:
        if not getattr(config, key):
            raise _refused(name, f"the provider '{named}' needs {key}", _NEEDED[key])
    if config.base_url and not _is_base_url(config.base_url):
        raise _refused(
            name, "base_url is no plain http or https address", "write it as https://host/path, without a query"
        )
    if named == "email":
        _check_mail(name, config)


_NEEDED: Final = {
    "api_key_env": "name the environment variable of the worker that holds the key",
    "host": "name the mail server",
}


def _check_mail(name: str, config: IntegrationConfig) -> None:
    if bool(config.user) != bool(config.password_env):
        raise _refused(
            name, "user and password_env belong together", "give both, or neither where no login is asked for"
        )
    if config.user and config.tls == "none" and config.host.lower() not in LOOPBACK_HOSTS:
        raise _refused(name, "the password would be sent unencrypted", 'set tls to "starttls" or "implicit"')
    if config.sender and not MAIL_ADDRESS.fullmatch(config.sender):
        raise _refused(name, f"sender '{config.sender}' is no mail address", "write it as name@host")
    if re.search(r"[\s/@\[\]]", config.host):
        raise _refused(name, f"host '{config.host}' is no host name", "write its port as `port`")


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", text))
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port_fits and plain


def _refused(name: str, reason: str, hint: str) -> InvalidInput:
    return InvalidInput(f"[tools.integrations.{name}] in everstep.toml: {reason}", code="config.integration", hint=hint)
