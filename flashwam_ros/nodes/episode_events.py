# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tells the recorder, and whoever else listens, when an episode begins and ends.

Topic `episode_event`, a `std_msgs/String` with a JSON object: `event` ('begin', 'end' or 'mark'),
`source`, `session`, `stamp_ns` (ROS time), and what the sidecar shall say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from flashwam_ros.episodes.schemas import EPISODE_EVENT
from flashwam_ros.nodes.clock import ros_now_ns
from flashwam_ros.nodes.lifecycle import STATUS_QOS

BEGIN, END, MARK = 'begin', 'end', 'mark'


class EpisodeEvents:
    """Publisher of episode events.

    Args:
        node: owner.
        source: who speaks, for example 'rollout'.
    """

    def __init__(self, node: Node, source: str):
        self._node, self._source = node, source
        self._events = node.create_publisher(String, EPISODE_EVENT, STATUS_QOS)

    def begin(self, session: str, task: str, about: Mapping[str, Any]) -> None:
        """An episode begins; `about` are entries of its sidecar (prompt, seed, policy ...)."""
        self._tell(BEGIN, session, task=task, about=dict(about))

    def end(self, session: str, verdict: Mapping[str, Any]) -> None:
        """It is over, with this verdict (verdict, reason, stages, elapsed_s)."""
        self._tell(END, session, verdict=dict(verdict))

    def _tell(self, event: str, session: str, **values: Any) -> None:
        message = {
            'event': event, 'source': self._source, 'session': session,
            'stamp_ns': ros_now_ns(self._node), **values,
        }  # fmt: skip
        self._events.publish(String(data=json.dumps(message)))
