"""Makes the buckets named as arguments, where they do not exist yet. Address and keys come from the environment."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def main(names: list[str]) -> None:
    """Make each bucket; one that is there already is ours and stays."""
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    for name in names:
        try:
            client.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise
        client.head_bucket(Bucket=name)


if __name__ == "__main__":
    main(sys.argv[1:])
