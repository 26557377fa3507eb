# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Raw views and checksum against golden messages and the definition of the checksum."""

import hashlib
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashwam_ros.wire import cdr
from flashwam_ros.wire.crc import crc32_mpeg2_words

_FILE = pathlib.Path(__file__).parents[1] / 'data' / 'g1_dds_golden.json'
GOLDEN = {entry['name']: entry for entry in json.loads(_FILE.read_text())['golden']}


def lowcmd_arms() -> cdr.LowCmd:
    """The golden recipe `lowcmd_arms`."""
    message = cdr.LowCmd()
    message.mode_machine = 15
    arms = np.arange(15, 29)
    message.motor_mode = [1 if 15 <= k <= 28 else 0 for k in range(35)]
    message.q[arms] = 0.125 * (arms - 20)
    message.tau[arms] = 0.5 * (arms - 15)
    message.kp[arms] = 80
    message.kd[arms] = 3
    message.q[29] = 1
    return message


def lowstate_ramp() -> cdr.LowState:
    """The golden recipe `lowstate_ramp`."""
    message = cdr.LowState()
    motors = np.arange(35)
    message.version[:] = (1, 2)
    message.mode_machine = 15
    message.tick = 1000
    message.quaternion[:] = (1, 0, 0, 0)
    message.gyroscope[:] = (0, 0.25, 0)
    message.accelerometer[:] = (0, 0, 9.8125)
    message.imu_temperature[:] = 40
    message.motor_mode = motors < 29
    message.q[:] = 0.0625 * motors
    message.dq[:] = -0.5 * motors
    message.tau_est[:] = 0.25 * motors
    message.temperature[:] = np.stack((30 + motors, 40 + motors), axis=1)
    message.vol[:] = 48
    message.wireless_remote[:] = np.arange(40)
    return message


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('lowcmd_zero', cdr.LowCmd()),
        ('lowcmd_arms', lowcmd_arms()),
        ('lowstate_ramp', lowstate_ramp()),
    ],
)
def test_sealed_message_is_the_golden_one(name: str, message: cdr.LowCmd) -> None:
    golden = GOLDEN[name]
    raw = message.seal()
    assert message.crc == golden['crc']
    assert raw[:4].hex() == golden['cdr_header_hex']
    assert len(raw) - 4 == golden['cdr_body_len']
    assert hashlib.sha256(raw[4:]).hexdigest() == golden['cdr_body_sha256']


def test_gripper_messages_are_the_golden_ones() -> None:
    command = cdr.GripperCmd()
    command.set(2.5, 0, 0, 5, 0.0625)
    assert command.to_bytes()[4:].hex() == GOLDEN['dex1_cmd']['cdr_body_hex']
    golden_state = bytearray.fromhex('00010000' + GOLDEN['dex1_state']['cdr_body_hex'])
    assert cdr.GripperState(bytes(golden_state)).values() == (1.5, -0.25, 0.5)
    state = cdr.GripperState()
    state.set(1.5, -0.25, 0.5)
    # The vendor's service leaves the temperature at zero; the golden message has 35 there.
    golden_state[4 + 36] = 0
    assert state.to_bytes() == bytes(golden_state)


def test_views_read_what_was_written() -> None:
    read = cdr.LowState(lowstate_ramp().seal())
    assert read.crc_ok()
    assert read.tick == 1000
    assert read.mode_machine == 15
    np.testing.assert_array_equal(read.q, 0.0625 * np.arange(35))
    np.testing.assert_array_equal(read.motor_mode, np.arange(35) < 29)
    np.testing.assert_array_equal(read.temperature[7], (37, 47))
    with pytest.raises(ValueError, match='read-only'):
        read.q[0] = 1


def test_any_flipped_bit_breaks_the_checksum() -> None:
    raw = bytearray(lowcmd_arms().seal())
    for byte in (4, 6, 8, 4 + 28, 4 + 28 * 29 + 4, 4 + 980):
        raw[byte] ^= 1
        assert not cdr.LowCmd(bytes(raw)).crc_ok(), byte
        raw[byte] ^= 1
    assert cdr.LowCmd(bytes(raw)).crc_ok()


def test_padding_does_not_count() -> None:
    raw = bytearray(lowstate_ramp().seal())
    for byte in (4 + 10, 4 + 71, 4 + 68 + 56 + 1):
        raw[byte] = 0xAA
    assert cdr.LowState(bytes(raw)).crc_ok()


@pytest.mark.parametrize('raw', [b'', cdr.HEADER, bytes(4) + bytes(1000), cdr.HEADER + bytes(999)])
def test_foreign_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(cdr.WireFormatError, match='LowCmd_'):
        cdr.LowCmd(raw)


def test_two_grippers_in_one_message_are_refused() -> None:
    raw = bytearray(cdr.GripperCmd().to_bytes())
    raw[4] = 2
    with pytest.raises(cdr.WireFormatError, match='2 entries'):
        cdr.GripperCmd(bytes(raw))


@given(st.sets(st.sampled_from(cdr.BUTTONS)))
def test_remote_round_trip(buttons: set) -> None:
    assert cdr.remote_buttons(cdr.remote_bytes(buttons)) == buttons


def test_remote_bit_order() -> None:
    assert cdr.remote_bytes(['R1', 'B'])[2:4] == bytes([1, 2])
    with pytest.raises(ValueError, match='no button'):
        cdr.remote_bytes(['Q'])


@given(st.binary(max_size=64).map(lambda b: b[: len(b) // 4 * 4]))
def test_checksum_is_the_bitwise_definition(image: bytes) -> None:
    crc = 0xFFFFFFFF
    for start in range(0, len(image), 4):
        crc ^= int.from_bytes(image[start : start + 4], 'little')
        for _ in range(32):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    assert crc32_mpeg2_words(image) == crc
