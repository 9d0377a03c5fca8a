"""Pictures behind references to an S3-compatible store, from buckets and prefixes that the operator allowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stream_ad.adapters.references import unchanged
from stream_ad.adapters.secrets import read_secret
from stream_ad.errors import ConfigError, DataError, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    #: http(s)://host:port; None: Amazon's
    endpoint: str | None = None
    region: str | None = None
    #: None: as the environment, ~/.aws or the machine's role say
    access_key: str | None = None
    secret_key_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 10.0


class ObjectReferences:
    """Reads `s3://bucket/key`. Keys are taken literally, nothing is decoded or resolved. Threads may share it."""

    def __init__(self, roots: Sequence[str], options: S3Options, *, max_bytes: int = 64 * 1024**2) -> None:
        """Raises: ConfigError: the extra `s3` is not installed, or a root is none."""
        self._options, self._max_bytes = options, max_bytes
        try:
            self._roots = [_parts(root.rstrip("/"), "stream.reference_roots") for root in roots]
        except DataError as error:
            raise ConfigError(str(error)) from error
        try:
            import s3fs  # noqa: F401  # better now than at the first reference
        except ModuleNotFoundError as error:
            raise ConfigError(
                "stream.reference_roots names a store, and its client is not installed; pip install 'stream-ad[s3]'"
            ) from error

    def __call__(self, reference: str, sha256: str | None) -> bytes:
        """The object's bytes; their sha256 is `sha256`, unless that is None.

        Raises:
            DataError: it will never be there: outside what is allowed, missing, empty, too large, changed.
            Unavailable: the store or the bucket is away, or does not let us in.
        """
        bucket, key = self._allowed(reference)
        try:
            # one more than allowed, so that one request tells a large object from a larger one
            data = self._store.cat_file(f"{bucket}/{key}", start=0, end=self._max_bytes + 1)
        except FileNotFoundError as error:
            if not self._can_list(bucket):
                raise Unavailable(f"the bucket {bucket} is away: {error}; it is tried again") from error
            raise DataError(
                f"needed an object at {reference!r}, there is none; send a reference to a picture"
            ) from error
        except PermissionError as error:
            if self._can_list(bucket):
                raise DataError(f"needed an object at {reference!r} that we may read: {error}") from error
            self.__dict__.pop("_store", None)  # the next try reads the secret anew
            raise Unavailable(f"the bucket {bucket} does not let us in: {error}; check s3.access_key") from error
        except Exception as error:
            if _is_empty(error):
                raise DataError(f"needed a picture at {reference!r}, got an empty object; send it again") from error
            raise Unavailable(f"could not read {reference!r} now: {error}; it is tried again") from error
        if len(data) > self._max_bytes:
            raise DataError(f"needed at most {self._max_bytes:,} bytes, {reference!r} has more; send a smaller picture")
        return unchanged(data, sha256, reference)

    def _allowed(self, reference: str) -> tuple[str, str]:
        bucket, key = _parts(reference, "ce_dataref")
        for root, prefix in self._roots:
            if bucket == root and key and (not prefix or key.startswith(f"{prefix}/")):
                return bucket, key
        allowed = ", ".join(f"s3://{bucket}/{prefix}" for bucket, prefix in self._roots)
        raise DataError(f"needed an object below what is allowed ({allowed}), got {reference!r}; allow its prefix")

    def _can_list(self, bucket: str) -> bool:
        """Whether the store lets us into the bucket at all: then a fault is the object's."""
        prefixes = [prefix for root, prefix in self._roots if root == bucket]
        try:
            self._store.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefixes[0], MaxKeys=1)
        except Exception:  # whatever it is, we are not in
            return False
        return True

    @cached_property
    def _store(self) -> Any:
        import s3fs

        options = self._options
        secret = options.secret_key_file and read_secret(options.secret_key_file, "s3.secret_key_file")
        client: dict[str, Any] = {"region_name": options.region}
        if options.ca_file is not None:
            client["verify"] = str(options.ca_file)
        store = s3fs.S3FileSystem(
            key=options.access_key,
            secret=secret,
            endpoint_url=options.endpoint,
            client_kwargs=client,
            config_kwargs={
                "connect_timeout": options.timeout_s,
                "read_timeout": options.timeout_s,
                "retries": {"max_attempts": 1},
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        store.retries = 1  # the stream tries again, and says so
        return store


def _parts(address: str, what: str) -> tuple[str, str]:
    """Bucket and key. No part of a key is empty, "." or "..": something on the way may resolve them."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    odd = [part for part in key.split("/") if part in ("", ".", "..")] if key else []
    if not address.startswith("s3://") or not bucket or odd or "?versionId=" in key or "\0" in address:
        raise DataError(f"{what} needs s3://bucket/key, got {address!r}")
    return bucket, key


def _is_empty(error: BaseException) -> bool:
    """A range of an empty object is none."""
    seen: BaseException | None = error
    while seen is not None:
        if "InvalidRange" in str(seen) or "requested range" in str(seen).lower():
            return True
        seen = seen.__cause__
    return False
