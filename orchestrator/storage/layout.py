"""Names of the objects in a storage; the only place that spells them.

sweeps/<sweep_id>/journal/000001.jsonl              numbered immutable segments
sweeps/<sweep_id>/summary.json                      overwritten at each flush; all that list and status read
sweeps/<sweep_id>/control/<stamp>-<hex>.json        commands for the driver
sweeps/<sweep_id>/trials/<trial_id>/attempt-<n>/    everything one attempt writes:
    trial.json                                      complete configuration and provenance
    labels.json                                     what the outputs stand for, and how faces were cut out
    metrics.jsonl                                   one EpochReport a line, all epochs so far
    log.txt                                         what the trial said
    checkpoints/000005/last.safetensors, state.json the newest epoch; state.json is written last and completes it
    best/000003.safetensors                         weights of the best epoch so far, by the objective or a label
    predictions/val-000003.parquet                  what those weights said of each image; of test too where it was read
probes/<sweep_id>/<node>-<hex>                      a word that a node wrote, to show that it can; removed at once
submissions/<sweep_id>.json                         a sweep that a laptop left for the driver on a cluster's head
starts/<sweep_id>.json                              a sweep that looks for its data, until it has a journal
datasets/<data_digest>/                             packed data sets: manifest.json and shards
joins/<data_digest>.json                            several data sets as one: their names, addresses and digests
splits/<split_digest>.parquet                       splits
stages/<key>/claims/000001.json                     who trains a stage; the newest counts, rewritten as a heartbeat
stages/<key>/attempt-<claim>/                       what training it writes, as an attempt of a trial does
stages/<key>/done.json                              which weights came of it; written once
weights/<sha256>.safetensors                        initial weights
"""

from __future__ import annotations

SWEEPS = "sweeps"
STARTS = "starts"
SUBMISSIONS = "submissions"
DATASETS = "datasets"
JOINS = "joins"
SPLITS = "splits"
STAGES = "stages"
WEIGHTS = "weights"
LABELS = "labels.json"
DONE = "done.json"


def sweep(sweep_id: str) -> str:
    """Folder of a sweep."""
    return f"{SWEEPS}/{sweep_id}"


def journal(sweep_id: str) -> str:
    """Folder of a sweep's journal segments."""
    return f"{sweep(sweep_id)}/journal"


def segment(sweep_id: str, number: int) -> str:
    """Journal segment ``number``, counted from 1."""
    return f"{journal(sweep_id)}/{number:06d}.jsonl"


def summary(sweep_id: str) -> str:
    """The sweep's summary."""
    return f"{sweep(sweep_id)}/summary.json"


def control(sweep_id: str) -> str:
    """Folder of the commands to a sweep's driver."""
    return f"{sweep(sweep_id)}/control"


def trials(sweep_id: str) -> str:
    """Folder of a sweep's trials."""
    return f"{sweep(sweep_id)}/trials"


def trial(sweep_id: str, trial_id: str) -> str:
    """Folder of a trial."""
    return f"{trials(sweep_id)}/{trial_id}"


def attempt(sweep_id: str, trial_id: str, number: int) -> str:
    """Folder of one attempt of a trial, counted from 0."""
    return f"{trial(sweep_id, trial_id)}/attempt-{number}"


def probe(sweep_id: str, name: str) -> str:
    """A word that the driver or a node leaves, to show that it reaches the storage."""
    return f"probes/{sweep_id}/{name}"


def submission(sweep_id: str) -> str:
    """What the driver of a sweep is to run, left by whoever submitted it from elsewhere."""
    return f"{SUBMISSIONS}/{sweep_id}.json"


def start(sweep_id: str) -> str:
    """A sweep's word that it is about to use what sweeps share."""
    return f"{STARTS}/{sweep_id}.json"


def dataset(data_digest: str) -> str:
    """Folder of a packed data set."""
    return f"{DATASETS}/{data_digest}"


def join(data_digest: str) -> str:
    """The join of several packed data sets, by its content."""
    return f"{JOINS}/{data_digest}.json"


def split(split_digest: str) -> str:
    """A split file."""
    return f"{SPLITS}/{split_digest}.parquet"


def stage(key: str) -> str:
    """Folder of a stage that trials start from."""
    return f"{STAGES}/{key}"


def stage_claims(key: str) -> str:
    """Folder of the claims on a stage."""
    return f"{stage(key)}/claims"


def stage_claim(key: str, number: int) -> str:
    """Claim ``number`` on a stage, counted from 1."""
    return f"{stage_claims(key)}/{number:06d}.json"


def stage_done(key: str) -> str:
    """What came of a stage."""
    return f"{stage(key)}/{DONE}"


def weights(sha256: str) -> str:
    """A file of initial weights."""
    return f"{WEIGHTS}/{sha256}.safetensors"


def checkpoints(attempt_folder: str) -> str:
    """Folder of an attempt's checkpoints, one folder an epoch."""
    return f"{attempt_folder}/checkpoints"


def checkpoint(attempt_folder: str, epoch: int) -> str:
    """Folder of the checkpoint after ``epoch`` finished epochs."""
    return f"{checkpoints(attempt_folder)}/{epoch:06d}"


def best_weights(attempt_folder: str, epoch: int) -> str:
    """Weights of an epoch of an attempt that is the best, by the objective or a label of ``keep``."""
    return f"{attempt_folder}/best/{epoch:06d}.safetensors"


def predictions(attempt_folder: str, part: str, epoch: int) -> str:
    """What the weights of an epoch said of each image of a part."""
    return f"{attempt_folder}/predictions/{part}-{epoch:06d}.parquet"
