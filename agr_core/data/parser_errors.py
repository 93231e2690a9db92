"""What parsers of images, archives and tables raise on damaged bytes."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib

from PIL import Image

PARSER_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,  # Pillow's, of PNG and TIFF
    TypeError,
    ValueError,
    Image.DecompressionBombError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
)
"""Their authors check little, so that a damaged length ends in an index, a division or an attribute that is not there.

``MemoryError`` is none of them: it says that this machine is too small, and the file may be whole.
"""
