"""The two ways a command can end badly; both reach the user as one sentence."""


class RoadmapError(Exception):
    """Base of the errors whose message is meant for the user; ``exit_status`` is the command's."""

    exit_status = 1


class RequestError(RoadmapError, ValueError):
    """The request was wrong: unknown option, impossible combination, missing data (exit status 2)."""

    exit_status = 2


class WorkError(RoadmapError, RuntimeError):
    """The request was right and the work failed: non-finite loss, unreadable image (exit status 1)."""
