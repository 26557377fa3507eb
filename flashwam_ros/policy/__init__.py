# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One policy protocol and its backends, and the predict-execute loop."""
