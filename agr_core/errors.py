"""Errors of the training core, as one shallow tree.

AgrError
├── InputError (ValueError)        wrong user input: the message states the value, the rule, the way out
│   ├── ConfigError                a TrialConfig that cannot be trained
│   │   └── ModelError             a model that cannot be built or trained on such images on any machine
│   ├── UnknownComponentError      a name that is not registered
│   └── DataError                  images, labels, tables, splits
├── IntegrityError                 bytes whose digest is not the expected one
├── CheckpointError                a checkpoint that does not fit the trial
├── DiskError                      a failed write to a disk of this machine
│   └── DiskFullError              a full disk
├── PluginError                    a plug-in that this machine lacks, or has in another version
└── DivergedError                  a loss that is not finite
"""

from __future__ import annotations


class AgrError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(AgrError, ValueError):
    """Wrong user input, which the user can correct."""


class ConfigError(InputError):
    """A trial configuration that cannot be trained."""


class ModelError(ConfigError):
    """A model that cannot be built, or not trained on images of this size, on any machine."""


class UnknownComponentError(InputError):
    """A component name that is not registered."""


class DataError(InputError):
    """Images, labels, tables or splits that cannot be used."""


class IntegrityError(AgrError):
    """Bytes whose digest is not the stored one."""


class CheckpointError(AgrError):
    """A checkpoint that is damaged or belongs to another configuration."""


class DiskError(AgrError):
    """Failed write to a disk of this machine; the same trial may succeed elsewhere."""


class DiskFullError(DiskError):
    """A full disk or an exhausted quota."""


class PluginError(AgrError):
    """A plug-in that this machine lacks, or has in another version; the same trial may succeed elsewhere."""


class DivergedError(AgrError):
    """A loss that is not finite."""


def how_to_install(extra: str) -> str:
    """Return how to install the packages of an extra, in a checkout and from PyPI."""
    return f"In a checkout `make venv` installs it; otherwise: pip install 'agr-sweeps[{extra}]'"
