# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an episode leaves behind."""
