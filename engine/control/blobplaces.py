"""Where large payloads are kept: files in the data folder, or an S3-compatible service."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from engine.core.errors import InvalidInput, Unavailable
from engine.settings import Settings

S3_TIMEOUT = timedelta(seconds=20)
"""Longest time of one request, of which a large payload takes several."""
S3_RETRIES = 3
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
TEMPORARY = ".new-"
TEMPORARY_S = 3_600.0
"""Half-written files of processes that died are older than that."""


class BlobPlace(Protocol):
    """Keeps bytes under names that are never used for other bytes."""

    @property
    def where(self) -> str:
        """The place, for people."""
        ...

    async def write(self, name: str, data: bytes) -> None:
        """Keep bytes, durably once this returns; they may be there already."""
        ...

    async def has(self, name: str) -> bool:
        """Whether there are bytes of that name."""
        ...

    async def read(self, name: str) -> bytes | None:
        """Return the bytes of that name; None = there are none."""
        ...

    async def remove(self, name: str) -> None:
        """Remove the bytes of that name, if there are any."""
        ...

    async def tidy(self) -> int:
        """Remove what writers that died have left half done; returns how much."""
        ...


class FilePlace:
    """Files in folders by the first two characters of their names.

    Args:
        folder: Where the files are; made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        """See `BlobPlace.where`."""
        return str(self._folder)

    def path(self, name: str) -> Path:
        """Return where the file of a name is, or would be."""
        return self._folder / name[:2] / name

    async def write(self, name: str, data: bytes) -> None:
        """See `BlobPlace.write`.

        Raises:
            Unavailable: `blob.full` if there is no space left; nothing is there under that name then.
        """
        try:
            await asyncio.to_thread(self._write, self.path(name), data)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise Unavailable(
                f"there is no space left for large payloads in {self._folder}",
                code="blob.full",
                hint="make space; what waits for it goes on by itself",
                retryable=True,
            ) from error

    async def has(self, name: str) -> bool:
        """See `BlobPlace.has`."""
        return self.path(name).exists()

    async def read(self, name: str) -> bytes | None:
        """See `BlobPlace.read`."""
        try:
            return await asyncio.to_thread(self.path(name).read_bytes)
        except FileNotFoundError:
            return None

    async def remove(self, name: str) -> None:
        """See `BlobPlace.remove`."""
        self.path(name).unlink(missing_ok=True)

    async def tidy(self) -> int:
        """See `BlobPlace.tidy`."""
        return await asyncio.to_thread(self._tidy)

    def _tidy(self) -> int:
        old = time.time() - TEMPORARY_S
        found = 0
        for path in self._folder.glob(f"*/{TEMPORARY}*"):
            try:
                if path.stat().st_mtime < old:
                    path.unlink()
                    found += 1
            except FileNotFoundError:
                continue  # its writer was quicker
        return found

    def _write(self, path: Path, data: bytes) -> None:
        for folder in (self._folder.parent, self._folder, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                # the history refers to the file as soon as this returns, so it has to survive a power cut
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


class S3Place:
    """Objects of a bucket.

    Args:
        store: The opened bucket (`obstore.store.S3Store`).
        where: The place, for people.
    """

    def __init__(self, store: Any, where: str) -> None:
        self._store = store
        self._where = where

    @property
    def where(self) -> str:
        """See `BlobPlace.where`."""
        return self._where

    async def write(self, name: str, data: bytes) -> None:
        """See `BlobPlace.write`."""
        import obstore

        try:
            await obstore.put_async(self._store, name, data)
        except Exception as error:
            raise self._away(error) from error

    async def has(self, name: str) -> bool:
        """See `BlobPlace.has`."""
        import obstore

        try:
            await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return False
        except Exception as error:
            raise self._away(error) from error
        return True

    async def read(self, name: str) -> bytes | None:
        """See `BlobPlace.read`."""
        import obstore

        try:
            found = await obstore.get_async(self._store, name)
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._away(error) from error

    async def remove(self, name: str) -> None:
        """See `BlobPlace.remove`."""
        import obstore

        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._away(error) from error

    async def tidy(self) -> int:
        """See `BlobPlace.tidy`; an object is there whole or not at all."""
        return 0

    async def names(self) -> AsyncIterator[str]:
        """Yield the names of all objects (tests and doctors)."""
        import obstore

        async for page in obstore.list(self._store):
            for item in page:
                yield str(item["path"])

    def _away(self, error: Exception) -> Unavailable:
        # the library's text tells of the request: its address, never the credentials
        told = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        return Unavailable(
            f"large payloads cannot be reached at {self._where}: {told}",
            code="blob.unreachable",
            hint="look at EVERSTEP_BLOBS and the service behind it; what waits goes on once it answers",
            retryable=True,
        )


def open_s3(settings: Settings) -> S3Place:
    """Return the place that EVERSTEP_BLOBS names; nothing is asked of it yet.

    Raises:
        InvalidInput: `config.invalid`.
    """
    from obstore.store import S3Store

    url = urlsplit(settings.blobs)
    keys = (settings.blobs_access_key, settings.blobs_secret_key)
    if url.scheme != "s3" or not url.netloc or (keys[0] is None) != (keys[1] is None):
        raise InvalidInput(
            "EVERSTEP_BLOBS is no s3://BUCKET/PREFIX, or one of its two keys is missing",
            code="config.invalid",
            hint="EVERSTEP_BLOBS=s3://bucket/everstep with EVERSTEP_BLOBS_ACCESS_KEY and EVERSTEP_BLOBS_SECRET_KEY, or "
            "with AWS_* variables",
        )
    config: dict[str, Any] = {"region": settings.blobs_region, "virtual_hosted_style_request": False}
    if settings.blobs_endpoint:
        config["endpoint"] = settings.blobs_endpoint
    if keys[0] is not None and keys[1] is not None:
        config |= {"access_key_id": keys[0].get_secret_value(), "secret_access_key": keys[1].get_secret_value()}
    client: dict[str, Any] = {"timeout": S3_TIMEOUT, "connect_timeout": timedelta(seconds=3)}
    if settings.blobs_endpoint.startswith("http://"):
        client["allow_http"] = True
    retry: dict[str, Any] = {"max_retries": S3_RETRIES, "retry_timeout": timedelta(seconds=10)}
    try:
        store = S3Store(
            url.netloc,
            prefix=url.path.strip("/") or None,
            config=config,  # type: ignore[arg-type]
            client_options=client,  # type: ignore[arg-type]
            retry_config=retry,  # type: ignore[arg-type]
        )
    except Exception as error:
        raise InvalidInput(f"EVERSTEP_BLOBS cannot be used: {error}", code="config.invalid") from error
    return S3Place(store, settings.blobs)
