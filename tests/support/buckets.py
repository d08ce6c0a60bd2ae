"""Buckets of the tests' object store, seen by a client that is not the program's."""

import os
from functools import cache
from typing import Any

import boto3
from botocore.config import Config


def client(endpoint: str | None = None) -> Any:
    """A client of the store that AWS_ENDPOINT_URL names, or of another one."""
    return _client(endpoint or os.environ["AWS_ENDPOINT_URL"])


@cache
def _client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="made-up",
        aws_secret_access_key="made-up-too",
        config=Config(retries={"total_max_attempts": 1}),
    )


def make(name: str) -> None:
    """Make a bucket."""
    client().create_bucket(Bucket=name)


def keys(url: str, endpoint: str | None = None) -> dict[str, int]:
    """The keys below a lake's URL and the size of each, in all of the bucket's name."""
    bucket, _, prefix = url.removeprefix("parquet+s3://").partition("/")
    pages = client(endpoint).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}


def content(url: str, path: str) -> bytes:
    """The file of a lake at `path`."""
    bucket, _, prefix = url.removeprefix("parquet+s3://").partition("/")
    found = client().get_object(Bucket=bucket, Key=f"{prefix}/{path}")
    return bytes(found["Body"].read())


def empty(url: str) -> None:
    """Delete all that is below a lake's URL."""
    bucket = url.removeprefix("parquet+s3://").partition("/")[0]
    if found := [{"Key": key} for key in keys(url)]:
        client().delete_objects(Bucket=bucket, Delete={"Objects": found})
