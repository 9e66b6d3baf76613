"""The one exception tree of the project, and the exit codes that it maps to.

AlexNetError            1   a run failed
├── UsageError          2   wrong flags or parameters
├── DataError          65   the input is not what it must be
├── StorageError       69   a place cannot be read or written
└── Interrupted        75   stopped by a signal; running again resumes
(anything else)        70   a bug

Messages say what failed and where, what was expected and found, and what to do.
"""

OK = 0
BUG = 70


class AlexNetError(Exception):
    """Base of every error that a person can act on."""

    exit_code = 1


class UsageError(AlexNetError):
    """A flag or parameter is unknown, missing, ill-typed or out of range."""

    exit_code = 2


class DataError(AlexNetError):
    """Input data is missing, damaged or of another kind than promised."""

    exit_code = 65


class StorageError(AlexNetError):
    """A URI cannot be read, written or created, or a disk is full."""

    exit_code = 69


class Interrupted(AlexNetError):
    """Stopped by SIGTERM or SIGINT; the same command resumes the work."""

    exit_code = 75
