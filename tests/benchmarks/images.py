"""Images a second into the training step, against report S4's own way, on one core: its augmentation, 224 pixels, grey.

    .venv/bin/python tests/benchmarks/images.py [--rounds 7] [--images 256] [--augment rand_augment]

The report's way decodes each JPEG at each use and changes it as floats, as its albumentations pipeline does (S4-D5).
Ours gathers bytes from the decoded images, changes them as bytes, and makes floats of the whole batch. The two take
turns, so that whatever else the machine does meets both; figures are of CPU time. Goal for ``agecnn``: at least 5.0;
another ``--augment`` is measured against the same way.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import cv2
import measured
import numpy as np
import torch
from measured import Figure

from agr_core.batch import Labels
from agr_core.config import SyntheticConfig, TrialConfig
from agr_core.data.augment.augment import build_augment
from agr_core.data.decode import decode, square
from agr_core.data.drawn.synthetic import draw_faces
from agr_core.data.loading.cache import DecodedPixels
from agr_core.data.loading.loader import BatchMaker, training_jobs
from agr_core.trainer.images import Normalizer

SIZE, BATCH = 224, 64
GOAL = 5.0


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--augment", default="agecnn")
    arguments = measured.parse(parser, tiny={"rounds": 1, "images": 16})
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    files = [face.data for face in draw_faces(SyntheticConfig(images=arguments.images, size=SIZE))]
    ways = {"ours": our_way(files, arguments.augment), "the report's": report_way(files)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(arguments.rounds + 1):
        for way in sorted(ways, reverse=bool(turn % 2)):
            started = time.process_time()
            ways[way](turn)
            if turn:  # the first turn builds pipelines
                seconds[way].append(time.process_time() - started)
    rate = {way: len(files) / statistics.median(took) for way, took in seconds.items()}
    ratio = rate["ours"] / rate["the report's"]
    goal = GOAL if arguments.augment == "agecnn" else None
    figures = [Figure(name=f"{way}, {arguments.augment}", value=rate[way], unit="images/s") for way in ways]
    figures.append(Figure(name="ours over the report's", value=ratio, unit="times", at_least=goal))
    sys.exit(measured.report(figures, arguments))


def our_way(files: list[bytes], augment: str) -> Callable[[int], None]:
    """An epoch's batches as ``TrialData`` makes them, and their floats."""
    image: dict[str, Any] = {"size": SIZE, "color": "grey"}
    if augment == "crop_flip":
        image["crop_from"] = SIZE + 32
    config = TrialConfig.from_document({"image": image, "augment": augment, "batch_size": BATCH})
    images = np.stack([square(decode(data), config.image.decode_size) for data in files])
    unknown, nobody = torch.full((len(files),), torch.nan), torch.full((len(files),), -1)
    maker = BatchMaker(
        DecodedPixels(images),
        Labels(age=unknown, age_low=unknown, age_high=unknown, gender=nobody, race=nobody),
        size=SIZE,
        grey=True,
        augment=lambda: build_augment(config.augment, config.image),
    )
    normalize = Normalizer(config.image, torch.device("cpu"))
    rows = np.arange(len(files))

    def turn(epoch: int) -> None:
        for job in training_jobs(rows, batch_size=BATCH, seed=0, epoch=epoch, augmented=augment != "none"):
            normalize(maker.make(job).images)

    return turn


def report_way(files: list[bytes]) -> Callable[[int], None]:
    """S4-D5, image by image: floats, grey, smallest side, affine, crop, blur, light, each with p 0.5."""
    pipeline = albumentations.Compose(
        [
            albumentations.ToFloat(max_value=255),
            albumentations.ToGray(num_output_channels=3, p=1),
            albumentations.SmallestMaxSize(SIZE),
            albumentations.Affine(scale=(0.95, 1.05), translate_percent=(-0.05, 0.05), rotate=(-15, 15), p=0.5),
            albumentations.RandomCrop(SIZE, SIZE),
            albumentations.GaussianBlur(blur_limit=(3, 7), sigma_limit=9, p=0.5),
            albumentations.RandomBrightnessContrast(p=0.5),
        ]
    )

    def turn(_: int) -> None:
        for start in range(0, len(files), BATCH):
            changed = []
            for data in files[start : start + BATCH]:
                decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                image = pipeline(image=cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))["image"]
                changed.append(torch.from_numpy(image).permute(2, 0, 1))
            torch.stack(changed)

    return turn


if __name__ == "__main__":
    main()
