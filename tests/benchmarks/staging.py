"""Bringing a data set to a node where eight processes want it at once, against one plain multi-part download.

    python tests/benchmarks/staging.py [--megabytes 500] [--shard-megabytes 64] [--processes 8] [--repeats 7]

Both read as many bytes from the same SeaweedFS on this machine, in turns, the order changing. Plain: boto3's
``download_file`` of one object, with its defaults, nothing verified. Ours: processes that have imported what they need
start at once on an empty cache, and it takes until the last of them has the data set, each shard's and image's SHA-256
checked. Bytes are those that the server says it sent (its Prometheus counters). Prints medians, ratio and bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import measured
import numpy as np
from measured import Figure

BUCKET = "agr"
GOAL = 0.9
MB = 10**6
IMAGE_BYTES = 50_000

# Says that it is ready, waits for a line, stages, says so.
WORKER = """
import sys
from pathlib import Path
import orchestrator.storage.s3
from orchestrator.storage import open_storage
from orchestrator.assets.node_cache import cached
uri, digest = sys.argv[1:]
print("ready", flush=True)
for cache in sys.stdin:
    print(cached(open_storage(uri), digest, cache=Path(cache.strip())), flush=True)
"""

PLAIN = """
import sys
import boto3
from botocore.config import Config
client = boto3.session.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
client.list_objects_v2(Bucket=sys.argv[1])
print("ready", flush=True)
for file in sys.stdin:
    client.download_file(sys.argv[1], sys.argv[2], file.strip())
    print(file.strip(), flush=True)
"""


@contextmanager
def store(folder: Path) -> Iterator[str]:
    """A SeaweedFS of this run, with the environment pointing at it; gives the address of its counters."""
    from orchestrator.services.process import end, start
    from orchestrator.services.record import StackFolder, choose_ports
    from orchestrator.services.seaweedfs import REGION, SeaweedFS
    from orchestrator.services.service import NotReadyError

    home = StackFolder(folder)
    home.logs.mkdir(parents=True)
    ports = choose_ports((*SeaweedFS.ports, "metrics"))
    server = SeaweedFS(home, ports)
    command = server.command()
    command = type(command)((*command.arguments, f"-metricsPort={ports['metrics']}"))
    process = start(command, folder=home.path, log=home.log(server.name))
    try:
        deadline = time.monotonic() + server.timeout_s
        while True:
            try:
                server.complete()
                break
            except NotReadyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        keys = server.credentials()
        assert keys is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": server.address,
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }
        yield f"http://127.0.0.1:{ports['metrics']}/metrics"
    finally:
        end(process, folder=home.path, ask=server.stop_signal, grace_s=server.grace_s)
        server.clean()


def sent_bytes(metrics: str) -> int:
    """What the S3 server has sent from the bucket so far."""
    with urllib.request.urlopen(metrics, timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(
        rf'^SeaweedFS_s3_bucket_traffic_sent_bytes_total{{bucket="{BUCKET}"}} (\S+)$', text, re.MULTILINE
    )
    return sum(int(float(number)) for number in found)


def publish(folder: Path, megabytes: int, shard_megabytes: int) -> tuple[str, int]:
    """Store a data set whose images are random bytes, and its shards as one object; return digest and size in bytes."""
    from agr_core.data.packed.pack import pack_images
    from agr_core.data.readers.base import RawImage
    from agr_core.labels.attributes import Vocabulary
    from orchestrator.assets import transfer
    from orchestrator.storage import open_storage

    random = np.random.default_rng(0)
    images = (
        RawImage(path=f"{number}.jpg", data=random.bytes(IMAGE_BYTES), age=30, age_low=30, age_high=30)
        for number in range(megabytes * MB // IMAGE_BYTES)
    )
    packed = folder / "packed"
    report = pack_images(
        images, packed, source="random bytes", kind="random bytes", vocabulary=Vocabulary((), ()),
        shard_bytes=shard_megabytes * MB,
    )  # fmt: skip
    whole = folder / "whole"
    with whole.open("wb") as joined:
        for shard in report.manifest["shards"]:
            joined.write((packed / shard["file"]).read_bytes())
    transfer.publish(packed, open_storage(f"s3://{BUCKET}/faces"))
    open_storage(f"s3://{BUCKET}").upload(whole, "whole")
    size = whole.stat().st_size
    whole.unlink()
    shutil.rmtree(packed)
    return report.digest, size


class Workers:
    """Processes that all do the same, once for each line they are given."""

    def __init__(self, program: str, arguments: list[str], number: int) -> None:
        command = [sys.executable, "-c", program, *arguments]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(number)
        ]
        for process in self._processes:
            assert _line(process) == "ready"

    def run(self, place: Path) -> float:
        """Seconds until the last of them is done."""
        begin = time.perf_counter()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{place}\n")
            process.stdin.flush()
        for process in self._processes:
            assert _line(process).startswith(str(place))
        return time.perf_counter() - begin

    def end(self) -> None:
        """Let them go."""
        for process in self._processes:
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def compare(folder: Path, metrics: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turns."""
    data_digest, size = publish(folder, arguments.megabytes, arguments.shard_megabytes)
    ours = Workers(WORKER, [f"s3://{BUCKET}/faces", data_digest], arguments.processes)
    plain = Workers(PLAIN, [BUCKET, "whole"], 1)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    sent: list[int] = []
    for turn in range(arguments.repeats):
        for way in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            place = folder / f"{way}-{turn}"
            before = sent_bytes(metrics)
            seconds[way].append((ours if way == "ours" else plain).run(place))
            if way == "ours":
                sent.append(sent_bytes(metrics) - before)
                shutil.rmtree(place)
            else:
                place.unlink()
            os.sync()  # what one way has written is not the other's to wait for
    for workers in (ours, plain):
        workers.end()
    rates = {way: size / MB / statistics.median(each) for way, each in seconds.items()}
    return {
        "megabytes": size // MB,
        "processes": arguments.processes,
        "plain_mb_per_s": round(rates["plain"], 1),
        "ours_mb_per_s": round(rates["ours"], 1),
        "ratio": round(rates["ours"] / rates["plain"], 3),
        "sent_of_size": [round(each / size, 4) for each in sent],
        "seconds": {way: [round(each, 3) for each in values] for way, values in seconds.items()},
    }


def main() -> None:
    """Run it and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--shard-megabytes", type=int, default=64)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    tiny = {"megabytes": 2, "shard_megabytes": 1, "processes": 2, "repeats": 1}
    arguments = measured.parse(parser, tiny=tiny)
    with tempfile.TemporaryDirectory(prefix="agr-benchmark-") as folder, store(Path(folder, "store")) as metrics:
        found = compare(Path(folder), metrics, arguments)
    print(json.dumps(found, indent=1))
    figures = [
        Figure(name="ours over a plain download", value=found["ratio"], unit="times", at_least=GOAL),
        Figure(name="bytes sent, of the data's", value=max(found["sent_of_size"]), unit="times", at_most=1.01),
    ]
    sys.exit(measured.report(figures, arguments))


if __name__ == "__main__":
    main()
