"""The embedded object store fills its disk before it refuses anything."""

import shutil

import boto3
import pytest
from botocore.config import Config

from tests.components import seaweed_server


@pytest.mark.slow
def test_more_buckets_than_the_disk_has_free_gigabytes(tmp_path):
    # Each bucket holds a volume of its own; by SeaweedFS' own reckoning a free gigabyte is one.
    free = shutil.disk_usage(tmp_path).free >> 30
    with seaweed_server(tmp_path) as server:
        s3 = boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=Config(retries={"max_attempts": 0}),
        )
        for number in range(min(free + 5, 300)):
            s3.create_bucket(Bucket=f"bucket-{number}")
            s3.put_object(Bucket=f"bucket-{number}", Key="object", Body=b"a radiograph" * 10_000)
