# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The operator's web page: live view, teleoperation, recording, episodes."""
