"""Errors that reach the user as one sentence."""

import signal


class RoadmapError(Exception):
    """Base class of errors whose message is for the user; ``exit_status`` is the command's.

    ``on_all_ranks``: every process of a run raises the error, so only the first reports it.
    """

    exit_status = 1
    on_all_ranks = False


class RequestError(RoadmapError, ValueError):
    """The request was wrong: unknown option, impossible combination, missing data (exit status 2)."""

    exit_status = 2
    on_all_ranks = True  # every process of a run gets the same request


class WorkError(RoadmapError, RuntimeError):
    """The request was right and the work failed: non-finite loss, unreadable image, full disk (exit status 1)."""


class PrunedError(RoadmapError):
    """A search does not train this design, or not to the end."""

    on_all_ranks = True


class StoppedError(RoadmapError):
    """A signal stopped the run after a checkpoint was written.

    The exit status is 75 (EX_TEMPFAIL: the same command resumes), or 1 after Ctrl-C, so that a loop that restarts the
    command ends.
    """

    on_all_ranks = True

    def __init__(self, by: signal.Signals, place: str):
        super().__init__(f"stopped by {by.name} after {place}; the same command resumes there")
        self.by, self.place = by, place
        self.exit_status = 1 if by == signal.SIGINT else 75

    def __reduce__(self) -> tuple[type, tuple[signal.Signals, str]]:
        # pickled on the way from a launcher's worker
        return type(self), (self.by, self.place)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return (str(error).splitlines() or [type(error).__name__])[0]
