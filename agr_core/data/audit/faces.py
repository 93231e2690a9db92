"""Number of faces in each image, by the detector used for cropping (``agr_core.data.face_crop``)."""

from __future__ import annotations

from collections.abc import Iterator

from agr_core.data.audit.examine import Examined
from agr_core.data.audit.images import Images
from agr_core.data.audit.report import Faces
from agr_core.data.face_crop import CroppedImages, FaceCropper
from agr_core.data.readers import RawImage, Skipped


def count_faces(images: Images, examined: Examined, *, workers: int) -> Faces:
    """Detect faces in every image that decodes.

    Args:
        images: The images.
        examined: Result of their examination.
        workers: Number of worker processes; 0: this process.

    Raises:
        ConfigError: If the detector is not installed.
    """
    row_of = {str(row): row for row in range(len(examined.rows))}

    def files() -> Iterator[RawImage]:
        for name, row in row_of.items():
            data = images.read([int(examined.rows[row])])[0]
            assert isinstance(data, bytes), "it was read when it was examined"
            yield RawImage(path=name, data=data)

    cropped = CroppedImages(files(), FaceCropper(), workers=workers)
    without = [seen for seen in cropped if isinstance(seen, Skipped)]
    return Faces(
        none=tuple(row_of[seen.file] for seen in without if not seen.lost),
        several=tuple((row_of[name], count) for name, count in cropped.several),
        failed=tuple((row_of[seen.file], seen.reason) for seen in without if seen.lost),
    )
