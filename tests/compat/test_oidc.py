"""Bearer tokens of an OpenID provider, on a real API with a real provider on loopback."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from engine.core.errors import InvalidInput, NotAllowed, Unavailable
from engine.edge.http.jwks import FRESH_S, REFRESH_S, RETRY_S, ProviderKeys
from engine.edge.http.oidc import OidcTokens, tokens_of
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.oidc import AUDIENCE, Provider, new_key, public_jwk
from tests.support.servers import free_port, serve_app

RSA, EC = new_key("RS256"), new_key("ES256")


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    made.show(RSA, "r1")
    made.show(EC, "e1")
    async with serve_app(made.app()) as url:
        made.url = url
        yield made


@pytest.fixture
async def api(provider: Provider, tmp_path: Path) -> AsyncIterator[ApiServer]:
    settings = settings_for(
        tmp_path, oidc_issuer=provider.url, oidc_audience=AUDIENCE, oidc_algorithms=("RS256", "ES256", "EdDSA")
    )
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as server:
        yield server


async def ask(api: ApiServer, token: str, path: str = "/tasks") -> tuple[int, str, str]:
    answer = await api.http.get(path, headers={"authorization": f"Bearer {token}"})
    body = answer.json()
    return answer.status_code, body.get("code", ""), body.get("detail", "")


# --- good tokens ---------------------------------------------------------------------------------------------------


async def test_tokens_of_all_kinds_of_keys_open(api: ApiServer, provider: Provider) -> None:
    edwards = new_key("EdDSA")
    provider.show(edwards, "o1")
    for token in (
        provider.token(RSA, "r1"),
        provider.token(EC, "e1", "ES256"),
        provider.token(edwards, "o1", "EdDSA"),
        # the only key of its kind needs no name
        provider.token(RSA, None),
        provider.token(RSA, "r1", aud=["another", AUDIENCE]),
    ):
        assert await ask(api, token) == (200, "", "")
    assert provider.asked == 1
    assert await ask(api, provider.token(EC, "e1", "ES256"), "/keys") == (
        403,
        "auth.scope",
        "this needs the scope 'admin', which the credentials do not have (they have: read, run)",
    )


async def test_a_server_with_a_provider_asks_everybody(api: ApiServer) -> None:
    answer = await api.http.get("/tasks")
    assert (answer.status_code, answer.json()["code"]) == (401, "auth.required")


async def test_a_token_acts_within_its_tenant_only(api: ApiServer, provider: Provider) -> None:
    for tenant in ("acme", "globex"):
        token = provider.token(RSA, "r1", tenant=tenant, scope="everstep:define")
        headers = {"authorization": token}
        assert (await api.http.post("/agents", json={"name": tenant}, headers=headers)).status_code == 201
        listed = await api.http.get("/agents", headers=headers)
        assert [agent["name"] for agent in listed.json()["items"]] == [tenant]


@pytest.mark.parametrize(
    ("claims", "scopes", "actor"),
    [
        ({}, {"read", "run"}, "ada@acme.example"),
        ({"scope": ["admin"]}, {"read", "run", "define", "admin"}, "ada@acme.example"),
        ({"scope": "openid everstep:read"}, {"read"}, "ada@acme.example"),
        ({"scope": "openid"}, set(), "ada@acme.example"),
        ({"scope": 7}, set(), "ada@acme.example"),
        ({"email_verified": False}, {"read", "run"}, "u-1"),
        ({"email": None}, {"read", "run"}, "u-1"),
        ({"email": "a\n" + "b" * 400}, {"read", "run"}, "a " + "b" * 253),
    ],
)
async def test_claims_say_who_it_is_and_what_it_may(
    provider: Provider, claims: dict[str, Any], scopes: set[str], actor: str
) -> None:
    tokens = OidcTokens(ProviderKeys(provider.url), audience=AUDIENCE, algorithms=["RS256"])
    caller = await tokens.caller(provider.token(RSA, "r1", **claims))
    assert (caller.tenant, set(caller.scopes), caller.actor, caller.root) == ("acme", scopes, actor, False)


async def test_claims_may_have_other_names_and_stand_deeper(provider: Provider, tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path,
        oidc_issuer=provider.url,
        oidc_audience=AUDIENCE,
        oidc_jwks_url=f"{provider.url}/keys",
        oidc_tenant_claim="https://acme.example/org",
        oidc_scope_claim="access.roles",
        oidc_actor_claim="name",
    )
    tokens = tokens_of(settings)
    assert tokens is not None
    claims: dict[str, Any] = {"https://acme.example/org": "globex", "access": {"roles": ["define"]}, "name": "Ada"}
    caller = await tokens.caller(provider.token(RSA, "r1", **claims))
    assert (caller.tenant, caller.actor, "define" in caller.scopes) == ("globex", "Ada", True)


# --- bad tokens ----------------------------------------------------------------------------------------------------


async def test_a_wrong_token_is_refused_with_the_reason(api: ApiServer, provider: Provider) -> None:
    now = int(time.time())
    stranger = new_key("RS256")
    for token, code, reason in (
        (provider.token(RSA, "r1", exp=now - 61), "auth.token_expired", "expired"),
        (provider.token(RSA, "r1", nbf=now + 90), "auth.token_invalid", "not valid yet"),
        (provider.token(RSA, "r1", aud="another"), "auth.token_invalid", "another audience"),
        (provider.token(RSA, "r1", aud=f"{AUDIENCE}-x"), "auth.token_invalid", "another audience"),
        (provider.token(RSA, "r1", iss="https://evil.example"), "auth.token_invalid", "another issuer"),
        (provider.token(RSA, "r1", iss=f"{provider.url}/"), "auth.token_invalid", "another issuer"),
        (provider.token(RSA, "r1", without="exp"), "auth.token_invalid", "'exp'"),
        (provider.token(RSA, "r1", without="aud"), "auth.token_invalid", "'aud'"),
        (provider.token(RSA, "r1", without="iss"), "auth.token_invalid", "'iss'"),
        (provider.token(RSA, "r1", email=None, sub=""), "auth.token_invalid", "nobody"),
        (provider.token(stranger, "r1"), "auth.token_invalid", "signature"),
        (provider.token(RSA, "e1"), "auth.token_invalid", "no key"),
        (provider.token(RSA, "r1", "RS512"), "auth.token_invalid", "kind"),
        ("a.b.c", "auth.token_invalid", "read"),
        (provider.token(RSA, "r1") + "x", "auth.token_invalid", ""),
    ):
        status, found, detail = await ask(api, token)
        assert (status, found) == (401, code), detail
        assert reason in detail


async def test_clocks_may_differ_by_a_minute(api: ApiServer, provider: Provider) -> None:
    now = int(time.time())
    assert (await ask(api, provider.token(RSA, "r1", exp=now - 30)))[0] == 200
    assert (await ask(api, provider.token(RSA, "r1", nbf=now + 30, iat=now + 30)))[0] == 200


async def test_tokens_without_a_private_key_behind_them_do_not_open(api: ApiServer, provider: Provider) -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    good = provider.token(RSA, "r1").split(".")
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    forged = _hs256({"alg": "HS256", "kid": "r1"}, good[1], pem)
    for token in (
        jwt.encode(jwt.decode(".".join(good), options={"verify_signature": False}), "", algorithm="none"),
        f"{part({'alg': 'none', 'kid': 'r1'})}.{good[1]}.",
        f"{part({'alg': 'None'})}.{good[1]}.{good[2]}",
        f"{good[0]}.{good[1]}.",
        forged,
        f"{good[0]}.{part({'iss': provider.url, 'aud': AUDIENCE, 'exp': 2**40, 'tenant': 'acme'})}.{good[2]}",
    ):
        assert (await ask(api, token))[:2] == (401, "auth.token_invalid")


def _hs256(header: dict[str, Any], body: str, secret: bytes) -> str:
    import hashlib
    import hmac

    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    signed = hmac.digest(secret, f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{base64.urlsafe_b64encode(signed).decode().rstrip('=')}"


async def test_keys_of_the_provider_that_are_secret_or_weak_are_not_used(api: ApiServer, provider: Provider) -> None:
    weak = new_key("RS256", 1024)
    provider.shown = {
        "s": {"kty": "oct", "kid": "s", "k": base64.urlsafe_b64encode(b"x" * 32).decode()},
        "w": public_jwk(weak, "w"),
        "c": {**public_jwk(RSA, "c"), "use": "enc"},
        "a": {**public_jwk(RSA, "a"), "alg": "RS512"},
    }
    shared = _hs256({"alg": "HS256", "kid": "s"}, provider.token(RSA, "r1").split(".")[1], b"x" * 32)
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        short = provider.token(weak, "w")
    for token in (shared, short, provider.token(RSA, "c"), provider.token(RSA, "a")):
        assert (await ask(api, token))[:2] == (401, "auth.token_invalid")


@pytest.mark.parametrize("tenant", [None, "", "Acme", 7, ["acme"], "a/b", "x" * 64])
async def test_a_token_without_a_tenant_is_refused(api: ApiServer, provider: Provider, tenant: object) -> None:
    assert (await ask(api, provider.token(RSA, "r1", tenant=tenant)))[:2] == (403, "auth.tenant")


# --- keys that change, and a provider that is away ----------------------------------------------------------------


async def test_a_new_key_of_the_provider_opens_without_a_restart(provider: Provider) -> None:
    clock = [0.0]
    keys = ProviderKeys(provider.url, clock=lambda: clock[0])
    tokens = OidcTokens(keys, audience=AUDIENCE, algorithms=["RS256"])
    await tokens.caller(provider.token(RSA, "r1"))
    second = new_key("RS256")
    del provider.shown["r1"]
    provider.show(second, "r2")
    # too soon: anybody can send tokens that name unknown keys
    for _ in range(3):
        with pytest.raises(NotAllowed):
            await tokens.caller(provider.token(second, "r2"))
    assert provider.asked == 1
    clock[0] += REFRESH_S
    assert (await tokens.caller(provider.token(second, "r2"))).tenant == "acme"
    assert provider.asked == 2
    with pytest.raises(NotAllowed):
        await tokens.caller(provider.token(RSA, "r1"))


async def test_cached_keys_go_on_working_while_the_provider_is_away(provider: Provider) -> None:
    clock = [0.0]
    keys = ProviderKeys(provider.url, clock=lambda: clock[0])
    tokens = OidcTokens(keys, audience=AUDIENCE, algorithms=["RS256"])
    await tokens.caller(provider.token(RSA, "r1"))
    provider.down = True
    clock[0] += FRESH_S + 1
    for _ in range(3):
        assert (await tokens.caller(provider.token(RSA, "r1"))).tenant == "acme"
    with pytest.raises(Unavailable) as caught:
        await tokens.caller(provider.token(RSA, "other"))
    assert caught.value.code == "auth.issuer_unreachable"
    assert (await tokens.caller(provider.token(RSA, "r1"))).tenant == "acme"
    provider.down = False
    clock[0] += REFRESH_S
    with pytest.raises(NotAllowed):
        await tokens.caller(provider.token(RSA, "other"))


async def test_without_any_keys_the_answer_is_503_until_the_provider_is_back(
    api: ApiServer, provider: Provider
) -> None:
    provider.down = True
    answer = await api.http.get("/tasks", headers={"authorization": provider.token(RSA, "r1")})
    assert (answer.status_code, answer.json()["code"]) == (503, "auth.issuer_unreachable")
    assert answer.headers["retry-after"] == "5"
    assert provider.asked == 1

    clock = [0.0]
    keys = ProviderKeys(provider.url, clock=lambda: clock[0])
    for _ in range(3):
        with pytest.raises(Unavailable):
            await keys.find("r1", "RS256")
    assert provider.asked == 2
    provider.down = False
    clock[0] += RETRY_S
    assert await keys.find("r1", "RS256") is not None


async def test_a_discovery_document_of_another_provider_is_not_believed(provider: Provider) -> None:
    provider.named = "https://evil.example"
    with pytest.raises(Unavailable) as caught:
        await ProviderKeys(provider.url).find("r1", "RS256")
    assert "evil.example" in caught.value.message


def test_keys_come_over_https_and_tokens_for_an_audience(tmp_path: Path) -> None:
    for settings in (
        settings_for(tmp_path, oidc_issuer="http://id.example", oidc_audience=AUDIENCE),
        settings_for(tmp_path, oidc_issuer="https://id.example"),
        settings_for(
            tmp_path, oidc_issuer="https://id.example", oidc_jwks_url="http://id.example/k", oidc_audience=AUDIENCE
        ),
    ):
        with pytest.raises(InvalidInput) as caught:
            tokens_of(settings)
        assert caught.value.code == "config.oidc"
    assert tokens_of(settings_for(tmp_path)) is None


def test_only_signatures_with_private_keys_can_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("HS256", "none", "RS256,HS512"):
        with pytest.raises(ValueError, match="oidc_algorithms"):
            settings_for(tmp_path, oidc_algorithms=wrong)
    monkeypatch.setenv("EVERSTEP_OIDC_ALGORITHMS", "ES256, PS256")
    assert settings_for(tmp_path).oidc_algorithms == ("ES256", "PS256")
