"""The embedded object store answers strangers at none of its ports."""

import socket
import ssl

import boto3
import httpx
import pytest

from service.embedded import GRPC_PORT_OFFSET, LOOPBACK

BUCKET = "guarded"


@pytest.fixture
def guarded(object_store):
    """Put one object into a bucket of its own; yield the server and the owner's client."""
    s3 = boto3.client(
        "s3",
        endpoint_url=object_store.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=object_store.access_key,
        aws_secret_access_key=object_store.secret_key,
    )
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="private", Body=b"a radiograph" * 10_000)
    yield object_store, s3
    s3.delete_object(Bucket=BUCKET, Key="private")
    s3.delete_bucket(Bucket=BUCKET)


@pytest.mark.parametrize(
    ("part", "method", "path"),
    [
        ("filer", "GET", f"/buckets/{BUCKET}/private"),
        ("filer", "GET", f"/buckets/{BUCKET}/"),
        ("filer", "PUT", f"/buckets/{BUCKET}/planted"),
        ("filer", "POST", f"/buckets/{BUCKET}/"),
        ("filer", "DELETE", f"/buckets/{BUCKET}/private"),
        ("filer", "DELETE", f"/buckets/{BUCKET}?recursive=true"),
        ("volume", "GET", "/2,0123456789"),
        ("volume", "POST", "/2,0123456789"),
        ("volume", "DELETE", "/2,0123456789"),
        ("master", "GET", "/dir/assign"),
        ("master", "GET", "/dir/status"),
        ("master", "GET", f"/col/delete?collection={BUCKET}"),
        ("master", "POST", "/submit"),
        ("admin", "GET", "/"),
        ("s3", "GET", f"/{BUCKET}/private"),
        ("s3", "PUT", f"/{BUCKET}/planted"),
        ("s3", "DELETE", f"/{BUCKET}/private"),
    ],
)
def test_an_unsigned_request_is_refused_and_changes_nothing(part, method, path, guarded):
    server, s3 = guarded
    answer = httpx.request(method, f"http://{LOOPBACK}:{getattr(server.ports, part)}{path}")
    assert 400 <= answer.status_code < 500
    assert b"radiograph" not in answer.content
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["private"]
    kept = s3.get_object(Bucket=BUCKET, Key="private")["Body"].read()
    assert kept == b"a radiograph" * 10_000


@pytest.mark.parametrize(
    ("part", "offset"),
    [
        ("master", 0),
        *((part, GRPC_PORT_OFFSET) for part in ("master", "volume", "filer", "s3", "admin")),
    ],
)
def test_the_masters_and_every_grpc_port_ask_for_the_certificate(part, offset, guarded):
    server, _ = guarded
    port = getattr(server.ports, part) + offset
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    stranger.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((LOOPBACK, port), timeout=5) as plain,
        pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
        stranger.wrap_socket(plain) as shaken,
    ):
        shaken.recv(1)  # with TLS 1.3 the refusal comes after the handshake
