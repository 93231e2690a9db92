"""Conversion of published weights to files that ``model.weights`` accepts."""

from agr_core.models.conversion.convert import Converted, convert

__all__ = ["Converted", "convert"]
