# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The message format against its bytes, and against bytes that lie."""

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flashwam_ros.policy.msgpack_numpy import MessageError, pack, unpack

DTYPES = st.sampled_from(['<f4', '<f8', '|u1', '<i8', '|b1', '<f2', '>f4'])


def test_an_array_is_the_map_that_stock_programs_write():
    array = np.array([[1, 2, 3]], np.uint8)
    stated = {b'__ndarray__': True, b'data': b'\1\2\3', b'dtype': '|u1', b'shape': [1, 3]}
    assert msgpack.unpackb(pack(array)) == stated
    assert np.array_equal(unpack(msgpack.packb(stated)), array)
    scalar = msgpack.unpackb(pack({'x': np.float32(1.5)}))['x']
    assert scalar == {b'__npgeneric__': True, b'data': 1.5, b'dtype': '<f4'}


@given(arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_arrays_come_back_as_they_were(array):
    back = unpack(pack({'a': [array]}))['a'][0]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_a_view_that_is_not_contiguous():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    assert np.array_equal(unpack(pack(array)), array)


@pytest.mark.parametrize('value', [
    np.array([object()]), np.array(['text']), np.array([1j]), np.array(['2026-01-01'], 'M8[D]'),
    np.zeros(2, [('a', 'f4')]), object(), {1, 2}, 2**80,
])  # fmt: skip
def test_what_is_not_sent(value):
    with pytest.raises(MessageError, match='cannot be sent'):
        pack({'value': value})


def array_map(**changes):
    values = {'__ndarray__': True, 'data': bytes(8), 'dtype': '<f4', 'shape': [2]} | changes
    return msgpack.packb({name.encode(): value for name, value in values.items()})


@pytest.mark.parametrize('data', [
    b'', b'\xc1', pack({'a': np.zeros(9)})[:-1], pack(1) + pack(2),
    array_map(dtype='|O'), array_map(dtype='<c8'), array_map(dtype='nonsense'),
    array_map(dtype=None), array_map(dtype='<U2'), array_map(shape=[3]), array_map(shape=[-2]),
    array_map(shape=[2.0]), array_map(shape=None), array_map(shape=[1] * 9), array_map(data='12'),
    array_map(shape=[2**40, 2**40]), msgpack.packb({1: 2}),
    msgpack.packb({b'__npgeneric__': True, b'data': 1000, b'dtype': '|u1'}),
])  # fmt: skip
def test_what_is_not_taken(data):
    with pytest.raises(MessageError):
        unpack(data)


@given(st.binary(max_size=200))
def test_nothing_else_comes_out_of_garbage(data):
    with contextlib.suppress(MessageError):
        unpack(data)
