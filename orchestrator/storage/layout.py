"""Key layout of a storage; every object key is defined here.

sweeps/<sweep_id>/journal/000001.jsonl              numbered immutable segments
sweeps/<sweep_id>/summary.json                      overwritten at each flush; all that list and status read
sweeps/<sweep_id>/cut/<stamp>/000012.jsonl          what `agr repair` took out of the journal
sweeps/<sweep_id>/control/<stamp>-<hex>.json        commands for the driver
sweeps/<sweep_id>/trials/<trial_id>/attempt-<n>/    everything one attempt writes:
    trial.json                                      full configuration and provenance
    labels.json                                     meaning of the outputs, and the face crop
    metrics.jsonl                                   one EpochReport a line, all epochs so far
    log.txt                                         log of the trial
    checkpoints/000005/last.safetensors, state.json the newest epoch; state.json is written last and completes it
    best/000003.safetensors                         weights of the best epoch so far, by the objective or a label
    predictions/val-000003.parquet                  their predictions for each image; test too if it was read
probes/<sweep_id>/<node>-<hex>                      probe object of a node, removed at once
submissions/<sweep_id>.json                         a submitted sweep, for the driver on a cluster's head
starts/<sweep_id>.json                              a sweep that prepares its data and has no journal yet
datasets/<data_digest>/                             packed data sets: manifest.json and shards
joins/<data_digest>.json                            several data sets as one: their names, addresses and digests
splits/<split_digest>.parquet                       splits
stages/<key>/claims/000001.json                     claim on a stage; the newest is valid, rewritten as a heartbeat
stages/<key>/attempt-<claim>/                       files of the training, as in an attempt of a trial
stages/<key>/done.json                              reference to the trained weights; written once
stages/<key>/test.json                              metrics on its test part, if a trial requested them
weights/<sha256>.safetensors                        initial weights
measurements/<hardware>/<load>.json                 memory and speed of a configuration on a kind of machine
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ATTEMPT = re.compile(r"attempt-([0-9]{1,9})")

SWEEPS = "sweeps"
STARTS = "starts"
SUBMISSIONS = "submissions"
DATASETS = "datasets"
JOINS = "joins"
SPLITS = "splits"
STAGES = "stages"
WEIGHTS = "weights"
MEASUREMENTS = "measurements"
LABELS = "labels.json"
DONE = "done.json"
LAST = "last.safetensors"
STATE = "state.json"


def sweep(sweep_id: str) -> str:
    """Return the folder of a sweep."""
    return f"{SWEEPS}/{sweep_id}"


def journal(sweep_id: str) -> str:
    """Return the folder of a sweep's journal segments."""
    return f"{sweep(sweep_id)}/journal"


def segment(sweep_id: str, number: int) -> str:
    """Return the key of journal segment ``number``, counted from 1."""
    return f"{journal(sweep_id)}/{number:06d}.jsonl"


def summary(sweep_id: str) -> str:
    """Return the key of a sweep's summary."""
    return f"{sweep(sweep_id)}/summary.json"


def cut(sweep_id: str, stamp: str) -> str:
    """Return the folder of the segments that one `agr repair` removed from a sweep's journal."""
    return f"{sweep(sweep_id)}/cut/{stamp}"


def control(sweep_id: str) -> str:
    """Return the folder of the commands to a sweep's driver."""
    return f"{sweep(sweep_id)}/control"


def trials(sweep_id: str) -> str:
    """Return the folder of a sweep's trials."""
    return f"{sweep(sweep_id)}/trials"


def trial(sweep_id: str, trial_id: str) -> str:
    """Return the folder of a trial."""
    return f"{trials(sweep_id)}/{trial_id}"


def attempt(sweep_id: str, trial_id: str, number: int) -> str:
    """Return the folder of one attempt of a trial, counted from 0."""
    return f"{trial(sweep_id, trial_id)}/attempt-{number}"


def attempt_numbers(folders: Iterable[str]) -> list[int]:
    """Return the numbers of the attempts among a trial's folders; other folders are ignored."""
    matches = (_ATTEMPT.fullmatch(name) for name in folders)
    return [int(match[1]) for match in matches if match is not None]


def probe(sweep_id: str, name: str) -> str:
    """Return the key of the probe object that the driver or a node writes to prove access to the storage."""
    return f"probes/{sweep_id}/{name}"


def submission(sweep_id: str) -> str:
    """Return the key of a submitted sweep, which the driver on the cluster's head runs."""
    return f"{SUBMISSIONS}/{sweep_id}.json"


def start(sweep_id: str) -> str:
    """Return the key of the marker that a sweep is about to use shared objects."""
    return f"{STARTS}/{sweep_id}.json"


def dataset(data_digest: str) -> str:
    """Return the folder of a packed data set."""
    return f"{DATASETS}/{data_digest}"


def join(data_digest: str) -> str:
    """Return the key of the join of several packed data sets, by its content."""
    return f"{JOINS}/{data_digest}.json"


def split(split_digest: str) -> str:
    """Return the key of a split file."""
    return f"{SPLITS}/{split_digest}.parquet"


def stage(key: str) -> str:
    """Return the folder of a stage that trials start from."""
    return f"{STAGES}/{key}"


def stage_claims(key: str) -> str:
    """Return the folder of the claims on a stage."""
    return f"{stage(key)}/claims"


def stage_claim(key: str, number: int) -> str:
    """Return the key of claim ``number`` on a stage, counted from 1."""
    return f"{stage_claims(key)}/{number:06d}.json"


def stage_done(key: str) -> str:
    """Return the key of a stage's result."""
    return f"{stage(key)}/{DONE}"


def stage_test(key: str) -> str:
    """Return the key of the metrics on a stage's test part, if a trial requested them."""
    return f"{stage(key)}/test.json"


def weights(sha256: str) -> str:
    """Return the key of a file of initial weights."""
    return f"{WEIGHTS}/{sha256}.safetensors"


def checkpoints(attempt_folder: str) -> str:
    """Return the folder of an attempt's checkpoints, one folder per epoch."""
    return f"{attempt_folder}/checkpoints"


def checkpoint(attempt_folder: str, epoch: int) -> str:
    """Return the folder of the checkpoint after ``epoch`` finished epochs."""
    return f"{checkpoints(attempt_folder)}/{epoch:06d}"


def all_best_weights(attempt_folder: str) -> str:
    """Return the folder of an attempt's best weights."""
    return f"{attempt_folder}/best"


def best_weights(attempt_folder: str, epoch: int) -> str:
    """Return the key of an epoch's weights, the best of an attempt by the objective or by a label of ``keep``."""
    return f"{all_best_weights(attempt_folder)}/{epoch:06d}.safetensors"


def predictions(attempt_folder: str, part: str, epoch: int) -> str:
    """Return the key of the predictions of an epoch's weights for each image of a part."""
    return f"{attempt_folder}/predictions/{part}-{epoch:06d}.parquet"


def measurement(hardware: str, load: str) -> str:
    """Return the key of a measured configuration, by the digests of its hardware and of its load."""
    return f"{MEASUREMENTS}/{hardware}/{load}.json"
