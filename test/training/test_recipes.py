# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from flashwam_ros.resources import share_path
from flashwam_ros.training.recipes import read_distill_recipe


@pytest.mark.parametrize(('method', 'variant', 'expected'), [
    ('linear_substeps', 'linear_substeps_plain', {'options': {'substeps': 1}}),
    ('flashwam', 'flashwam_legacy_bf16', {'precision': 'legacy_bf16'}),
])  # fmt: skip
def test_a_variant_changes_one_thing_of_its_method(method, variant, expected):
    plain = dataclasses.asdict(read_distill_recipe(method, 'nano'))
    varied = dataclasses.asdict(read_distill_recipe(
        method, 'nano', share_path('config', 'training', 'variants', f'{variant}.yaml')))
    options = {**plain['options'], **expected.get('options', {})}
    assert varied == {**plain, **expected, 'options': options}
    assert varied != plain
