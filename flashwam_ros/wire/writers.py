# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who else writes on a topic, from DDS discovery."""

import threading
import uuid
from collections import Counter

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import InstanceState
from cyclonedds.domain import DomainParticipant

_BATCH = 64


class WriterWatch:
    """Follows the writers on some topics; those of the own participant do not count.

    Args:
        participant: the own participant.
        topics: names of the topics to follow.
    """

    def __init__(self, participant: DomainParticipant, topics: tuple[str, ...]) -> None:
        self._own = participant.guid
        self._topics = frozenset(topics)
        self._reader = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
        self._writers: dict[uuid.UUID, tuple[str, uuid.UUID]] = {}
        self._lock = threading.Lock()

    def foreign(self) -> list[str]:
        """Live writers of other participants, sorted, as `topic (participant id)`."""
        return sorted(f'{topic} ({writer})' for topic, writer in self._alive())

    def rivals(self) -> list[str]:
        """The same of those topics that several participants write.

        A participant with several writers on a topic counts once: that is one program.
        """
        writers = set(self._alive())
        count = Counter(topic for topic, _ in writers)
        return sorted(f'{topic} ({writer})' for topic, writer in writers if count[topic] > 1)

    def close(self) -> None:
        """Stop following."""
        del self._reader

    def _alive(self) -> list[tuple[str, uuid.UUID]]:
        with self._lock:
            while self._take():
                pass
            return list(self._writers.values())

    def _take(self) -> bool:
        changes = self._reader.take(_BATCH)
        for change in changes:
            alive = change.sample_info.instance_state == InstanceState.Alive
            if not alive:
                self._writers.pop(change.key, None)
            elif change.topic_name in self._topics and change.participant_key != self._own:
                self._writers[change.key] = change.topic_name, change.participant_key
        return len(changes) == _BATCH
