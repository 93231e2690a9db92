"""Errors of the training core, one shallow tree.

AgrError
├── InputError (ValueError)        something the user gave is wrong: the message says what, the rule, the way out
│   ├── ConfigError                a TrialConfig that cannot be trained
│   ├── UnknownComponentError      a name that is not registered
│   └── DataError                  images, labels, tables, splits
├── IntegrityError                 bytes that do not have the digest they should have
├── CheckpointError                a checkpoint that does not fit the trial
├── DiskError                      a disk of this machine does not take what is written
│   └── DiskFullError              there is no room on it
└── DivergedError                  a loss that is no longer finite
"""

from __future__ import annotations


class AgrError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(AgrError, ValueError):
    """Something the user gave is wrong and can be fixed by the user."""


class ConfigError(InputError):
    """A trial configuration that cannot be trained."""


class UnknownComponentError(InputError):
    """A component name that is not registered."""


class DataError(InputError):
    """Images, labels, tables or splits that cannot be used as they are."""


class IntegrityError(AgrError):
    """Bytes do not have the digest they were stored under."""


class CheckpointError(AgrError):
    """A checkpoint is damaged or belongs to another configuration."""


class DiskError(AgrError):
    """A disk of this machine does not take what is written. Not the user's configuration: elsewhere it may work."""


class DiskFullError(DiskError):
    """There is no room on a disk, or none that this user may have."""


class DivergedError(AgrError):
    """The loss of a trial is no longer finite."""
