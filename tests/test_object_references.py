"""References to a store reach the allowed prefixes and nothing else; the store is a real server on loopback."""

import hashlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from stream_ad.adapters.object_references import ObjectReferences, S3Options
from stream_ad.adapters.references import FileReferences, References
from stream_ad.errors import ConfigError, DataError, Unavailable
from tests.broker import free_port

PICTURE = b"encoded picture"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    store = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    store.create_bucket(Bucket="plant")
    store.create_bucket(Bucket="office")
    for key, data in {
        "line-1/cam 1/a.png": PICTURE,
        "line-1/Süd+1%2F.png": PICTURE,
        "line-1/empty.png": b"",
        "line-10/a.png": PICTURE,
        "secret.png": b"secret",
    }.items():
        store.put_object(Bucket="plant", Key=key, Body=data)
    yield address
    server.stop()


@pytest.fixture
def options(endpoint: str, tmp_path: Path) -> S3Options:
    (tmp_path / "secret").write_text("s\n")
    return S3Options(
        endpoint=endpoint, region="us-east-1", access_key="k", secret_key_file=tmp_path / "secret", timeout_s=5.0
    )


@pytest.fixture
def references(options: S3Options) -> ObjectReferences:
    return ObjectReferences(["s3://plant/line-1/"], options)


def test_an_allowed_object_is_read_whatever_its_key_looks_like(references):
    assert references("s3://plant/line-1/cam 1/a.png", SHA256) == PICTURE
    assert references("s3://plant/line-1/Süd+1%2F.png", None) == PICTURE


def test_a_whole_bucket_can_be_allowed(options):
    assert ObjectReferences(["s3://plant"], options)("s3://plant/secret.png", None) == b"secret"


@pytest.mark.parametrize(
    "reference",
    [
        "s3://plant/secret.png",
        "s3://plant/line-10/a.png",
        "s3://plant/line-1",
        "s3://plant/line-1/",
        "s3://plant/line-1/../secret.png",
        "s3://plant/line-1/./cam 1/a.png",
        "s3://plant/line-1//cam 1/a.png",
        "s3://plant/line-1/cam 1/a.png?versionId=1",
        "s3://office/line-1/a.png",
        "s3://plant",
        "s3://",
        "s3://plant/line-1/a\0.png",
    ],
)
def test_nothing_else_is_read(references, reference):
    with pytest.raises(DataError, match=r"needed|needs"):
        references(reference, None)


def test_a_missing_object_is_refused_for_good(references):
    with pytest.raises(DataError, match="there is none"):
        references("s3://plant/line-1/b.png", None)


def test_changed_and_empty_objects_are_refused(references):
    with pytest.raises(DataError, match="changed since"):
        references("s3://plant/line-1/cam 1/a.png", "0" * 64)
    with pytest.raises(DataError, match="empty object"):
        references("s3://plant/line-1/empty.png", None)


def test_a_large_object_is_refused_after_the_bytes_that_are_allowed(options):
    size = len(PICTURE)
    reference = "s3://plant/line-1/cam 1/a.png"
    assert ObjectReferences(["s3://plant/line-1"], options, max_bytes=size)(reference, None) == PICTURE
    with pytest.raises(DataError, match=f"at most {size - 1} bytes"):
        ObjectReferences(["s3://plant/line-1"], options, max_bytes=size - 1)(reference, None)


def test_a_bucket_that_is_away_is_waited_for(options):
    with pytest.raises(Unavailable, match="the bucket gone is away"):
        ObjectReferences(["s3://gone"], options)("s3://gone/a.png", None)


def test_a_store_that_is_away_is_waited_for(tmp_path):
    (tmp_path / "secret").write_text("s")
    options = S3Options(
        endpoint=f"http://127.0.0.1:{free_port()}",
        region="us-east-1",
        access_key="k",
        secret_key_file=tmp_path / "secret",
        timeout_s=1.0,
    )
    with pytest.raises(Unavailable, match=r"could not read 's3://plant/a.png' now"):
        ObjectReferences(["s3://plant"], options)("s3://plant/a.png", None)


def test_a_store_that_does_not_let_us_in_is_waited_for_and_the_secret_read_again(references, endpoint):
    allow_calls(endpoint, 0)
    try:
        with pytest.raises(Unavailable, match=r"does not let us in.*check s3.access_key"):
            references("s3://plant/line-1/cam 1/a.png", None)
    finally:
        allow_calls(endpoint, 1_000_000)
    assert references("s3://plant/line-1/cam 1/a.png", None) == PICTURE


def allow_calls(endpoint: str, count: int) -> None:
    """From the one after that the server checks who calls."""
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=str(count).encode(), method="POST")
    request.add_header("content-type", "text/plain")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
        pass


def test_a_root_that_is_none_is_a_fault_of_the_configuration(options):
    with pytest.raises(ConfigError, match=r"stream.reference_roots needs s3://bucket/key"):
        ObjectReferences(["s3://plant/../x"], options)


def test_folders_and_stores_are_allowed_side_by_side(references, tmp_path):
    (tmp_path / "a.png").write_bytes(b"from the folder")
    both = References(FileReferences([tmp_path]), references)
    assert both("a.png", None) == b"from the folder"
    assert both("s3://plant/line-1/cam 1/a.png", SHA256) == PICTURE
    with pytest.raises(DataError, match="other stores are not read"):
        References(FileReferences([tmp_path]), None)("s3://plant/line-1/cam 1/a.png", None)
