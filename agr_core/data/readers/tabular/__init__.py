"""Custom data sets: a table of labels in a common format, and the images that it names or contains."""

from agr_core.data.readers.tabular.options import LabelOptions
from agr_core.data.readers.tabular.plan import Plan
from agr_core.data.readers.tabular.source import KIND, LabelledSource, has_tables, is_table, open_labelled

__all__ = ["KIND", "LabelOptions", "LabelledSource", "Plan", "has_tables", "is_table", "open_labelled"]
