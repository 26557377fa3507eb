# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Raw byte views of the Unitree messages: numpy arrays onto XCDR1 little-endian bytes.

A generic CDR codec costs 0.25 ms per message in Python; a strided view costs a few microseconds.
Offsets are those of the vendor types after the 4-byte encapsulation header. This module knows
bytes only; `flashwam_ros.wire.idl` binds it to DDS types.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from flashwam_ros.wire.crc import crc32_mpeg2_words

HEADER = b'\x00\x01\x00\x00'
HEADER_BYTES = len(HEADER)
MOTORS = 35
WEIGHT_SLOT = 29
REMOTE_BYTES = 40
BUTTONS = (
    'R1', 'L1', 'start', 'select', 'R2', 'L2', 'F1', 'F2',
    'A', 'B', 'X', 'Y', 'up', 'right', 'down', 'left',
)  # fmt: skip
_BUTTONS_AT = 2


class WireFormatError(ValueError):
    """The bytes on the wire are not the message that the topic promises."""


class _Message:
    """A message of fixed size over its own or somebody else's bytes.

    Args:
        raw: the message with its header (read-only if `bytes`); None makes an all-zero message.

    Raises:
        WireFormatError: if header or length do not fit the message.
    """

    NAME = ''
    BODY = 0

    def __init__(self, raw: bytes | bytearray | None = None) -> None:
        size = HEADER_BYTES + self.BODY
        if raw is None:
            raw = bytearray(HEADER) + bytearray(self.BODY)
        if len(raw) != size or bytes(raw[:2]) != HEADER[:2]:
            raise WireFormatError(
                f'{self.NAME}: got {len(raw)} bytes with header {bytes(raw[:4]).hex()}, expected '
                f'{size} bytes of XCDR1 little endian ({HEADER.hex()})'
            )
        self._raw = raw

    def _view(self, dtype: str, offset: int, count: int) -> np.ndarray:
        return np.ndarray((count,), dtype, self._raw, HEADER_BYTES + offset)

    def to_bytes(self) -> bytes:
        """The message with its header."""
        return bytes(self._raw)


class _LowMessage(_Message):
    """What LowCmd_ and LowState_ share: 35 motors and a checksum at the end.

    Class constants are body offsets: `FIRST_MODE` is the mode byte of motor 0, which shares a word
    with what is before it; `PADS` are ranges of C struct padding outside the motor array.
    """

    FIRST_MODE = 0
    STRIDE = 0
    PADS: tuple[tuple[int, int], ...] = ()
    _mask = np.zeros(0, dtype=np.uint8)

    def __init_subclass__(cls) -> None:
        mask = np.full(cls.BODY, 0xFF, dtype=np.uint8)
        for start, stop in cls.PADS:
            mask[start:stop] = 0
        for motor in range(MOTORS):
            mode = cls._first_value() + motor * cls.STRIDE
            mask[mode + 1 : mode + 4] = 0
        cls._mask = mask

    def __init__(self, raw: bytes | bytearray | None = None) -> None:
        super().__init__(raw)
        self._body = self._view('u1', 0, self.BODY)
        second_mode = HEADER_BYTES + self._first_value() - 4 + self.STRIDE
        self._later_modes = np.ndarray((MOTORS - 1,), 'u1', self._raw, second_mode, (self.STRIDE,))

    @classmethod
    def _first_value(cls) -> int:
        return (cls.FIRST_MODE // 4 + 1) * 4

    def _motor(self, dtype: str, offset: int, count: int | None = None) -> np.ndarray:
        start = HEADER_BYTES + self._first_value() + offset
        if count is None:
            return np.ndarray((MOTORS,), dtype, self._raw, start, (self.STRIDE,))
        strides = (self.STRIDE, np.dtype(dtype).itemsize)
        return np.ndarray((MOTORS, count), dtype, self._raw, start, strides)

    @property
    def motor_mode(self) -> np.ndarray:
        """(35,) uint8 copy of the mode bytes (1 enabled, 0 disabled)."""
        return np.concatenate(
            (self._body[self.FIRST_MODE : self.FIRST_MODE + 1], self._later_modes)
        )

    @motor_mode.setter
    def motor_mode(self, modes: Sequence[int] | np.ndarray) -> None:
        self._body[self.FIRST_MODE] = modes[0]
        self._later_modes[:] = modes[1:]

    @property
    def crc(self) -> int:
        """The checksum that the message carries."""
        return int.from_bytes(self._raw[-4:], 'little')

    def computed_crc(self) -> int:
        """The checksum that belongs to the content (of the C struct, not of these bytes)."""
        first = self._first_value()
        image = np.empty(self.BODY, dtype=np.uint8)
        image[:first] = self._body[:first]
        # In C the motor array starts on its own word, in CDR its first byte shares one.
        image[first] = self._body[self.FIRST_MODE]
        image[first + 4 :] = self._body[first:-4]
        image &= self._mask
        return crc32_mpeg2_words(image)

    def crc_ok(self) -> bool:
        """Whether the checksum carried belongs to the content."""
        return self.crc == self.computed_crc()

    def seal(self) -> bytes:
        """Fill in the checksum and return the message with its header."""
        self._raw[-4:] = self.computed_crc().to_bytes(4, 'little')
        return bytes(self._raw)


class LowCmd(_LowMessage):
    """`unitree_hg` LowCmd_ (rt/arm_sdk, rt/lowcmd). Views of all 35 slots, SI units.

    Attributes:
        q, dq, tau, kp, kd: (35,) float32 views; slot 29's `q` is the hand-over weight.
    """

    NAME, BODY, FIRST_MODE, STRIDE = 'LowCmd_', 1000, 2, 28
    PADS = ((2, 4),)

    def __init__(self, raw: bytes | bytearray | None = None) -> None:
        super().__init__(raw)
        self.q, self.dq, self.tau, self.kp, self.kd = (
            self._motor('<f4', 4 * field) for field in range(5)
        )

    @property
    def mode_machine(self) -> int:
        """Machine type: copied from the robot's state."""
        return int(self._body[1])

    @mode_machine.setter
    def mode_machine(self, value: int) -> None:
        self._body[1] = value

    @property
    def weight(self) -> float:
        """Hand-over weight of rt/arm_sdk, 0 (built-in controller) to 1 (user)."""
        return float(self.q[WEIGHT_SLOT])


class LowState(_LowMessage):
    """`unitree_hg` LowState_ (rt/lowstate). Views, SI units; gravity is part of the accelerometer.

    Attributes:
        q, dq, ddq, tau_est, vol: (35,) float32 views.
        temperature: (35, 2) int16 casing and winding, deg C. motorstate: (35,) uint32 error bits.
        quaternion: (4,) float32 (w, x, y, z). gyroscope, accelerometer, rpy: (3,) float32.
        imu_temperature: (1,) int16. version: (2,) uint32. wireless_remote: (40,) uint8.
    """

    NAME, BODY, FIRST_MODE, STRIDE = 'LowState_', 2088, 70, 56
    PADS = ((10, 12), (70, 72))

    def __init__(self, raw: bytes | bytearray | None = None) -> None:
        super().__init__(raw)
        self.q, self.dq, self.ddq, self.tau_est = (
            self._motor('<f4', 4 * field) for field in range(4)
        )
        self.temperature = self._motor('<i2', 16, 2)
        self.vol = self._motor('<f4', 20)
        self.motorstate = self._motor('<u4', 32)
        self.version = self._view('<u4', 0, 2)
        self._tick = self._view('<u4', 12, 1)
        self.quaternion = self._view('<f4', 16, 4)
        self.gyroscope = self._view('<f4', 32, 3)
        self.accelerometer = self._view('<f4', 44, 3)
        self.rpy = self._view('<f4', 56, 3)
        self.imu_temperature = self._view('<i2', 68, 1)
        self.wireless_remote = self._view('u1', 2028, REMOTE_BYTES)

    @property
    def mode_machine(self) -> int:
        """Machine type of the robot (15: 29 degrees of freedom, 5010 wrists)."""
        return int(self._body[9])

    @mode_machine.setter
    def mode_machine(self, value: int) -> None:
        self._body[9] = value

    @property
    def tick(self) -> int:
        """Millisecond counter of the robot."""
        return int(self._tick[0])

    @tick.setter
    def tick(self, value: int) -> None:
        self._tick[0] = value & 0xFFFFFFFF


class GripperCmd(_Message):
    """`unitree_go` MotorCmds_ with one entry (rt/dex1/*/cmd); motor rad, 0 closed, 5.4 open."""

    NAME, BODY = 'MotorCmds_', 40

    def __init__(self, raw: bytes | bytearray | None = None) -> None:
        super().__init__(raw)
        _check_one_entry(self, own=raw is None)
        self._values = self._view('<f4', 8, 5)

    def set(self, q: float, dq: float, tau: float, kp: float, kd: float) -> None:
        """Write an enabled command (rad, rad/s, N.m, N.m/rad, N.m.s/rad)."""
        self._raw[HEADER_BYTES + 4] = 1
        self._values[:] = (q, dq, tau, kp, kd)

    def values(self) -> tuple[float, float, float, float, float]:
        """(q, dq, tau, kp, kd) of the entry."""
        return tuple(self._values.tolist())


class GripperState(_Message):
    """`unitree_go` MotorStates_ with one entry (rt/dex1/*/state); motor rad, 0 closed."""

    NAME, BODY = 'MotorStates_', 52

    def __init__(self, raw: bytes | bytearray | None = None) -> None:
        super().__init__(raw)
        _check_one_entry(self, own=raw is None)
        self._values = self._view('<f4', 8, 4)

    def set(self, q: float, dq: float, tau_est: float) -> None:
        """Write the measured state (rad, rad/s, N.m): all that the vendor's service fills."""
        self._raw[HEADER_BYTES + 4] = 1
        self._values[:] = (q, dq, 0.0, tau_est)

    def values(self) -> tuple[float, float, float]:
        """(q, dq, tau_est) of the entry."""
        q, dq, _, tau = self._values.tolist()
        return q, dq, tau


def _check_one_entry(message: _Message, own: bool) -> None:
    length = message._view('<u4', 0, 1)
    if own:
        length[0] = 1
    elif length[0] != 1:
        raise WireFormatError(f'{message.NAME}: {length[0]} entries, expected one gripper motor')


def remote_bytes(buttons: Iterable[str]) -> bytes:
    """The 40 bytes of `wireless_remote` with these buttons held and the sticks centred.

    Raises:
        ValueError: for a name that is not in `BUTTONS`.
    """
    bits = 0
    for name in buttons:
        if name not in BUTTONS:
            raise ValueError(f'no button {name!r} on the remote: one of {", ".join(BUTTONS)}')
        bits |= 1 << BUTTONS.index(name)
    content = bytearray(REMOTE_BYTES)
    content[_BUTTONS_AT : _BUTTONS_AT + 2] = bits.to_bytes(2, 'little')
    return bytes(content)


def remote_buttons(content: bytes | np.ndarray) -> frozenset[str]:
    """Names of the buttons held in the 40 bytes of `wireless_remote`."""
    bits = int(content[_BUTTONS_AT]) | int(content[_BUTTONS_AT + 1]) << 8
    return frozenset(name for i, name in enumerate(BUTTONS) if bits >> i & 1)
