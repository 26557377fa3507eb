# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The experts solve their tasks through the limiter, without the limiter having to do anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.robot.limits import Limiter
from flashwam_ros.twin.expert import Expert
from flashwam_ros.twin.ik import ArmKinematics, hand_rotation, rotation_vector
from flashwam_ros.twin.scenes import TASKS as NAMES
from flashwam_ros.twin.simulation import Simulation
from flashwam_ros.twin.tasks import TASKS

CONTRACT = RobotContract.load()
TICK_S, ROW_S, ROWS = 0.004, 0.05, 16


class Driver:
    """The driver's path in small: linear rows at 250 Hz, limiter, gravity torque, jaw window."""

    def __init__(self, simulation):
        self.simulation = simulation
        self.limiter = Limiter(CONTRACT)
        self.state = self.limiter.seed(self.measured())
        self.last = self.measured()
        self.limited = 0

    def measured(self):
        arms = self.simulation.joint_state()[0][15:]
        return np.concatenate([arms, self.simulation.gripper_state()[0]])

    def execute(self, rows):
        points = np.vstack([self.last, rows])
        for k in range(1, round(len(rows) * ROW_S / TICK_S) + 1):
            place = k * TICK_S / ROW_S
            i = min(int(np.ceil(place - 1e-9)) - 1, len(rows) - 1)
            slope = points[i + 1] - points[i]
            self._tick(points[i] + (place - i) * slope, slope / ROW_S)
        self.last = rows[-1]

    def _tick(self, target, speed):
        simulation, measured = self.simulation, self.measured()
        self.state, report = self.limiter.step(self.state, target, speed, measured, TICK_S)
        self.limited += report.limited
        gravity = simulation.data.qfrc_bias[simulation.twin.arm_dof]
        simulation.set_motor_command(
            self.state.position[:14],
            self.state.velocity[:14],
            gravity,
            CONTRACT.kp[:14],
            CONTRACT.kd[:14],
        )
        jaws = self.limiter.gripper_write(self.state.position[14:], measured[14:])
        simulation.set_gripper_command(jaws, CONTRACT.kp[14:], CONTRACT.kd[14:])
        simulation.step(TICK_S)


@pytest.fixture(scope='module')
def simulations():
    return {task: Simulation(task) for task in NAMES}


def _episode(simulation, seed, recovery=False, lag=0):
    """Verdict, rows and limited ticks; ``lag`` chunks is how old the expert's view is."""
    simulation.reset(seed)
    driver = Driver(simulation)
    expert = Expert(simulation.task, seed, recovery)
    expert.reset(simulation.world(), driver.last[:14], driver.last[14:])
    rows, seen = [driver.last], [simulation.world()]
    while simulation.time_s < TASKS[simulation.task].time_limit_s:
        seen.append(simulation.world())
        rows.append(expert.rows(ROWS, seen[max(0, len(seen) - 1 - lag)]))
        driver.execute(rows[-1])
        status = simulation.status()
        if status.success or status.failure or expert.done:
            break
    if expert.done and not status.success:
        driver.execute(np.tile(driver.last, (ROWS, 1)))
    return simulation.status(), np.vstack(rows), driver.limited


@pytest.mark.parametrize('seed', [101, 102, 103])
@pytest.mark.parametrize('task', NAMES)
def test_expert_solves_the_task_within_the_limits(simulations, task, seed):
    status, rows, limited = _episode(simulations[task], seed)
    assert status.success, status
    assert limited == 0
    speed = np.diff(rows, axis=0) / ROW_S
    jump = np.diff(np.vstack([np.zeros(16), speed]), axis=0) / ROW_S
    assert np.abs(speed[:, :14]).max() < 3.0
    assert np.percentile(np.abs(speed[:, :14]).max(axis=1), 99) < 2.0
    assert np.abs(jump).max() <= 25.0
    assert np.abs(speed[:, 14:]).max() <= 6.0
    assert (rows >= CONTRACT.lower - 1e-9).all() and (rows <= CONTRACT.upper + 1e-3).all()


def test_an_old_view_of_the_scene_is_good_enough(simulations):
    assert _episode(simulations['pink_object'], 7, lag=1)[0].success


def _rows(simulation, seed, recovery=False, calls=6):
    simulation.reset(seed)
    expert = Expert(simulation.task, seed, recovery)
    expert.reset(simulation.world(), np.zeros(14), np.full(2, 5.4))
    rows, pushed = [], []
    for _ in range(calls):
        rows.append(expert.rows(ROWS, simulation.world()))
        pushed.append(expert.last_perturbed)
    return np.vstack(rows), np.concatenate(pushed)


def test_same_seed_same_rows(simulations):
    first, second = (_rows(simulations['red_bottle'], 4, calls=3)[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_recovery_pushes_the_arm_and_says_so(simulations):
    simulation = simulations['pink_object']
    plain, quiet = _rows(simulation, 1, calls=2)
    pushed = [_rows(simulation, seed, recovery=True, calls=2)[1].sum() for seed in range(1, 6)]
    assert not quiet.any()
    assert any(pushed) and set(pushed) <= {0, 8}
    assert plain.shape == (32, 16)


def test_rows_before_reset_and_unknown_tasks_are_errors():
    with pytest.raises(RuntimeError, match='reset'):
        Expert('red_bottle', 0).rows(4, None)
    with pytest.raises(ValueError, match='unknown task'):
        Expert('juggle', 0)


@settings(max_examples=30, deadline=None)
@given(
    arm=st.sampled_from([0, 1]),
    x=st.floats(0.26, 0.38),
    y=st.floats(0.0, 0.2),
    z=st.floats(0.80, 0.92),
    pitch=st.floats(0.3, 0.6),
)
def test_ik_reaches_the_work_space_and_keeps_the_limits(arm, x, y, z, pitch):
    kinematics = ArmKinematics(CONTRACT)
    side = 1 if arm == 0 else -1
    position = np.array([x, side * y, z])
    rotation = hand_rotation(-side * float(np.clip(2.8 * (0.16 - y), 0, 0.7)), pitch)
    q, error = kinematics.solve(arm, position, rotation, np.zeros(7), iterations=150)
    lower, upper = CONTRACT.lower[:14].reshape(2, 7), CONTRACT.upper[:14].reshape(2, 7)
    assert (q >= lower[arm]).all() and (q <= upper[arm]).all()
    assert error < 0.006
    turn = kinematics.pose(arm, q)[1]
    assert np.linalg.norm(rotation_vector(rotation @ turn.T)) < 0.03
