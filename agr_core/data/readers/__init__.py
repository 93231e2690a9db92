"""Readers of raw data sets, one module per family; importing the package registers them."""

from agr_core.data.readers import adience as adience
from agr_core.data.readers import afad as afad
from agr_core.data.readers import agedb as agedb
from agr_core.data.readers import appa_real as appa_real
from agr_core.data.readers import cacd as cacd
from agr_core.data.readers import celeba as celeba
from agr_core.data.readers import fairface as fairface
from agr_core.data.readers import fgnet as fgnet
from agr_core.data.readers import imdb_wiki as imdb_wiki
from agr_core.data.readers import lagenda as lagenda
from agr_core.data.readers import megaage as megaage
from agr_core.data.readers import morph as morph
from agr_core.data.readers import utkface as utkface
from agr_core.data.readers.base import READERS, RawImage, Reader, Skipped, find_reader, read_images
from agr_core.plugins import READERS as PLUGIN_READERS
from agr_core.plugins import load

for _name, _reader in load(PLUGIN_READERS).items():
    READERS.register(_name, _reader)

__all__ = ["READERS", "RawImage", "Reader", "Skipped", "find_reader", "read_images"]
