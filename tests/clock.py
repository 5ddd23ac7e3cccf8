"""A clock for tests of ``--watch``: it stands still except while the program sleeps, and events happen at set times."""

from collections.abc import Callable


class FakeClock:
    """Replaces the module ``time``; ``at(seconds, event)`` has ``event()`` called once so many seconds have passed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, Callable[[], object]]] = []

    def at(self, seconds: float, event: Callable[[], object]) -> None:
        self.events.append((seconds, event))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [event for time, event in self.events if time <= self.now]
        self.events = [(time, event) for time, event in self.events if time > self.now]
        for event in due:
            event()
