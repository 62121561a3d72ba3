"""Chooses what carries the texts of model calls: PostgreSQL if the store is there, else sockets on this machine."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from engine.broker.publishing import TokenPublisher
from engine.broker.transport import Role, Transport
from engine.broker.unix import UnixTransport, socket_folder


def choose_transport(role: Role, *, data_dir: Path, store_url: str) -> Transport:
    """Return the transport of an installation, not yet open.

    Args:
        role: Who this process is.
        data_dir: The folder that all processes of one machine share.
        store_url: SQLAlchemy URL of the store.
    """
    url = make_url(store_url)
    if url.get_backend_name() != "postgresql":
        return UnixTransport(socket_folder(data_dir), role)
    # imported late: nobody else needs the driver here
    from engine.broker.postgres import PostgresTransport

    return PostgresTransport(url.set(drivername="postgresql").render_as_string(hide_password=False), role)


def token_publisher(*, data_dir: Path, store_url: str) -> TokenPublisher:
    """Return a worker's publisher, not yet started; arguments as for `choose_transport`."""
    return TokenPublisher(choose_transport(Role.WORKER, data_dir=data_dir, store_url=store_url))
