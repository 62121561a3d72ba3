"""Keeps outgoing HTTP from private addresses: resolves, checks and connects to the very address that was checked."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable

import httpcore
import httpx

from engine.core.errors import InvalidInput, ToolError
from engine.core.plan.grant import Grant, check_permitted, host_entry
from engine.settings import HttpConfig

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_ENTRY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5}|\*)")
_MAX_PORT = 65_535
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service is 192.0.0.192
        "168.63.129.16/32",  # Azure's service for its own machines: registered as public, and reached from inside only
        "192.88.99.0/24",  # relays of 6to4
        "fec0::/10",  # site-local
        "3fff::/20",  # documentation
    )
)
"""What Python's registry counts as public, or did in some version."""


class AddressGuard:
    """Decides which addresses a host name may lead to."""

    def __init__(self, config: HttpConfig) -> None:
        """Read the operator's exceptions.

        Args:
            config: `allow` holds `host:port`, `host:*` or `[v6]:port`, with the host as it stands in the URL.

        Raises:
            InvalidInput: `config.invalid` if an entry has another form.
        """
        for entry in config.allow:
            if not _ENTRY.fullmatch(entry.strip()):
                raise InvalidInput(
                    f"[http] allow in everstep.toml: '{entry}' is not of the form host:port",
                    code="config.invalid",
                    hint='write "localhost:8080", "localhost:*" or "[::1]:8080"',
                )
        self._allow = frozenset(entry.strip().lower() for entry in config.allow)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host that a tool may connect to, in the resolver's order.

        Every spelling of an address (decimal, octal, mapped) is turned into the address itself by the resolver before
        it is checked.

        Args:
            host: Host of the URL, without brackets.
            port: Port of the URL.

        Returns:
            At least one numeric address.

        Raises:
            ToolError: `tool.address_refused` if all addresses are private.
            httpcore.ConnectError: If the name does not resolve.
        """
        addresses = await _addresses_of(host, port)
        if self._is_allowed(host, port):
            return addresses
        public = [address for address in addresses if is_public(address)]
        if not public:
            shown = f"[{host}]" if ":" in host else host
            raise ToolError(
                f"address of '{shown}:{port}' is refused: {addresses[0]} is not a public address",
                code="tool.address_refused",
                hint=f'allow it in everstep.toml: [http] allow = ["{shown}:{port}"]',
                details={"host": host, "port": port},
            )
        return public

    def _is_allowed(self, host: str, port: int) -> bool:
        name = host.lower().rstrip(".")
        shown = f"[{name}]" if ":" in name else name
        return not self._allow.isdisjoint({f"{shown}:{port}", f"{shown}:*"})


async def _addresses_of(host: str, port: int) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]  # saves the resolver's thread
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the host name does not resolve: {error}") from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def is_public(address: str) -> bool:
    """Say whether an address lies in the public internet.

    Loopback, private, shared, link-local, site-local, multicast, reserved and unspecified addresses do not, nor do
    those by which clouds tell machines of themselves; nor do IPv6 addresses that carry such an IPv4 address (mapped,
    compatible, NAT64, 6to4, Teredo).

    Args:
        address: A numeric address, perhaps with a zone.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    return all(
        item.is_global
        and not item.is_multicast
        and not item.is_reserved
        and not any(item in network for network in _NOT_PUBLIC)
        for item in _with_embedded(ip)
    )


def _with_embedded(ip: IPAddress) -> Iterable[IPAddress]:
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip in _NAT64:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    if int(ip) >> 32 == 0:
        return [ip, ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    if ip.sixtofour is not None:
        return [ip, ip.sixtofour]
    if ip.teredo is not None:
        return [ip, *ip.teredo]
    return [ip]


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore, each to an address that the guard has let pass.

    TLS still checks the certificate against the host name of the URL, since only the TCP address is replaced.
    """

    def __init__(self, guard: AddressGuard) -> None:
        """Connect under a guard."""
        self._guard = guard
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first permitted address of `host` that answers.

        Raises:
            ToolError: `tool.address_refused`.
            httpcore.ConnectError: None of them answers.
            httpcore.LocalProtocolError: There is no such port.
        """
        if not 0 < port <= _MAX_PORT:
            raise httpcore.LocalProtocolError(f"there is no port {port}")
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in await self._guard.resolve(host.strip("[]"), port):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"'{host}' has no address")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._network.sleep(seconds)


GRANT = "everstep_grant"
"""Extension of a request that holds its bound; httpx hands it on to the requests that follow redirects."""


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a pool that connects through the guard; redirects pass it like any request."""

    def __init__(self, guard: AddressGuard, *, verify: ssl.SSLContext, limits: httpx.Limits) -> None:
        """Make the transport.

        Args:
            guard: Decides about addresses.
            verify: TLS settings.
            limits: Limits of the pool.
        """
        super().__init__(verify=verify, limits=limits, trust_env=False)
        # httpx has no parameter for a network backend; a test proves that the guard is really in the way
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=GuardedNetwork(guard),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, unless its host is beyond the bound that it carries.

        Raises:
            AuthorityError: `authority.denied`; nothing was sent to that host.
        """
        grant = request.extensions.get(GRANT)
        if isinstance(grant, Grant):
            check_permitted(grant, "hosts", _host_of(request.url))
        return await super().handle_async_request(request)


def _host_of(url: httpx.URL) -> str:
    """Return the host and port that a request goes to, as a bound names them."""
    # the ASCII form, which is what is resolved; `url.host` shows a name in another script
    host = url.raw_host.decode("ascii")
    shown = f"[{host}]" if ":" in host else host
    text = shown if url.port is None else f"{shown}:{url.port}"
    return host_entry(text) or text
