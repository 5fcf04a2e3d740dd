"""Images: trades from before the subscription, which exchanges send first, and so again after every reconnect."""

from __future__ import annotations

from collections.abc import Iterable

from exchanges.api import ID_MAX_CHARS, Event, Past, Trade

EXPECTED_MAX = 1000
"""Topics that can be expected to begin with an image without our having asked for them."""


def past(events: Iterable[Event]) -> list[Event]:
    """Make the trades among these events past ones; the others stay as they are."""
    events = list(events)
    trades = [event for event in events if type(event) is Trade]
    return [Past(trades), *(event for event in events if type(event) is not Trade)]


class FirstPush:
    """Which topics have yet to make their first push, where only its being the first tells that it is an image.

    A push may come before the acknowledgement of its topic. So what we asked for is expected from then on, and its
    acknowledgement says nothing more; an acknowledgement of what we did not ask for (a recorded connection) does.
    """

    def __init__(self) -> None:
        self.expected: set[str] = set()
        """Topics whose next push is their first."""
        self._unanswered: set[str] = set()

    def asked(self, topics: Iterable[str]) -> None:
        """Subscriptions were sent."""
        topics = tuple(topics)
        self.expected.update(topics)
        self._unanswered.update(topics)

    def acked(self, topic: str) -> None:
        """The exchange accepted one."""
        bounded = len(topic) <= ID_MAX_CHARS and len(self.expected) < EXPECTED_MAX
        if topic not in self._unanswered and bounded:
            self.expected.add(topic)
        self._unanswered.discard(topic)

    def refused(self, topics: Iterable[str]) -> None:
        """The exchange refused these."""
        topics = tuple(topics)
        self.expected.difference_update(topics)
        self._unanswered.difference_update(topics)

    def take(self, topic: str) -> bool:
        """Whether this push of the topic is its first; the next will not be."""
        if topic not in self.expected:
            return False
        self.expected.discard(topic)
        return True
