"""Readers of raw data sets, one module each; importing the package registers them."""

from agr_core.data.readers import adience as adience
from agr_core.data.readers import fairface as fairface
from agr_core.data.readers import utkface as utkface
from agr_core.data.readers.base import READERS, RawImage, Reader, Skipped, find_reader

__all__ = ["READERS", "RawImage", "Reader", "Skipped", "find_reader"]
