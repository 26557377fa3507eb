# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The mark of promotion fits one manifest only."""

import hashlib
import json

import pytest

from flashwam_ros.wam.promotion import promotion_problem


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'flashwam.json').write_text('{"format": 1}', encoding='utf-8')
    digest = hashlib.sha256(b'{"format": 1}').hexdigest()
    (tmp_path / 'promotion.json').write_text(
        json.dumps({'flashwam_sha256': digest}), encoding='utf-8')
    return tmp_path


def test_a_mark_that_fits(folder):
    assert promotion_problem(folder) is None


def test_no_checkpoint_and_no_mark(tmp_path, folder):
    assert 'holds no flashwam.json' in promotion_problem(folder / 'nothing')
    (folder / 'promotion.json').unlink()
    assert 'has not passed `flashwam promote`' in promotion_problem(folder)


def test_an_edited_checkpoint_has_lost_its_mark(folder):
    (folder / 'flashwam.json').write_text('{"format": 2}', encoding='utf-8')
    assert 'is of another checkpoint' in promotion_problem(folder)


@pytest.mark.parametrize('text', ['{', '[]', '{}', '{"flashwam_sha256": 5}', '\xff'])
def test_a_damaged_mark_is_none(folder, text):
    (folder / 'promotion.json').write_bytes(text.encode('latin-1'))
    assert 'promotion.json' in promotion_problem(folder)
