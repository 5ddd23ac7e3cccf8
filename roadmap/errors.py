"""The ways a command can end badly; each reaches the user as one sentence."""

import signal


class RoadmapError(Exception):
    """Base of the errors whose message is meant for the user; ``exit_status`` is the command's.

    ``everywhere`` says that every process of a run raises it, so that the first alone need tell.
    """

    exit_status = 1
    everywhere = False


class RequestError(RoadmapError, ValueError):
    """The request was wrong: unknown option, impossible combination, missing data (exit status 2)."""

    exit_status = 2
    everywhere = True  # the processes of a run are asked for the same


class WorkError(RoadmapError, RuntimeError):
    """The request was right and the work failed: non-finite loss, unreadable image, full disk (exit status 1)."""


class PrunedError(RoadmapError):
    """A design that a search left without a result: not to be trained, or not to the end."""

    everywhere = True


class StoppedError(RoadmapError):
    """Asked to stop by a signal, to this process or another of its run, with a checkpoint written.

    Exit status 75, sysexits' "try again later", says that the same command would go on; after Ctrl-C it is 1, so that
    a loop that starts it again ends.
    """

    everywhere = True

    def __init__(self, by: signal.Signals, place: str):
        super().__init__(f"stopped by {by.name} after {place}; the same command goes on from there")
        self.by, self.place = by, place
        self.exit_status = 1 if by == signal.SIGINT else 75

    def __reduce__(self) -> tuple[type, tuple[signal.Signals, str]]:
        # from a launcher's worker to the process that started it
        return type(self), (self.by, self.place)


def first_line(error: BaseException) -> str:
    """What an error says, or is called, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
