# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Physics of the twin: determinism, the motor law, the gripper law, resets."""

import numpy as np
import pytest

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.twin import scenes
from flashwam_ros.twin.simulation import Simulation

CONTRACT = RobotContract.load()
KP, KD = CONTRACT.kp[:14], CONTRACT.kd[:14]


@pytest.fixture(scope='module')
def simulation():
    return Simulation('red_bottle')


def _gravity(simulation):
    return simulation.data.qfrc_bias[simulation.twin.arm_dof].copy()


def _arm(simulation):
    return simulation.joint_state()[0][15:].copy()


def _waved(seed):
    simulation = Simulation('pot_potato')
    simulation.reset(seed)
    start = _arm(simulation)
    for k in range(100):
        target = start + 0.3 * np.sin(k / 20)
        simulation.set_motor_command(target, np.zeros(14), np.zeros(14), KP, KD)
        simulation.set_gripper_command(np.full(2, 5.4 - k / 40))
        simulation.step(0.01)
    return simulation.data.qpos.copy(), simulation.data.qvel.copy()


def test_same_seed_gives_bit_identical_trajectories():
    (qa, va), (qb, vb) = _waved(3), _waved(3)
    assert (qa == qb).all() and (va == vb).all()
    assert not np.array_equal(qa, _waved(4)[0])


def test_a_reset_forgets_everything(simulation):
    simulation.reset(5)
    before = simulation.data.qpos.copy()
    simulation.set_motor_command(np.ones(14), np.zeros(14), np.zeros(14), KP, KD)
    simulation.step(0.5)
    simulation.reset(5)
    assert (simulation.data.qpos == before).all()
    assert simulation.time_s == 0.0
    simulation.step(0.2)
    np.testing.assert_allclose(_arm(simulation), before[simulation.twin.arm_qpos], atol=0.01)


@pytest.mark.parametrize('task', scenes.TASKS)
def test_scenes_stand_still_and_upright(task):
    simulation = Simulation(task)
    for seed in range(20):
        simulation.reset(seed)
        before = simulation.world()
        simulation.step(0.4)
        after = simulation.world()
        assert simulation.status().failure is None
        for name in simulation.twin.objects:
            moved = np.linalg.norm(after.position(name) - before.position(name))
            assert moved < 5e-4, (seed, name)
            assert name == 'potato' or after.up(name) > 0.999, (seed, name)


def test_motor_law_is_evaluated_as_stated(simulation):
    simulation.reset(1)
    rng = np.random.default_rng(0)
    q, dq, _ = (a[15:] for a in simulation.joint_state())
    target, speed, torque = q + rng.uniform(-0.05, 0.05, 14), rng.uniform(-1, 1, 14), np.ones(14)
    simulation.set_motor_command(target, speed, torque, KP, KD)
    simulation.step(0.002)
    expected = torque + KP * (target - q) + KD * (speed - dq)
    limit = np.array([simulation.model.actuator_forcerange[i, 1] for i in range(14)])
    measured = simulation.joint_state()[2][15:]
    np.testing.assert_allclose(measured, np.clip(expected, -limit, limit), atol=1e-6)


def test_torque_stops_at_the_effort_limit(simulation):
    simulation.reset(1)
    simulation.set_motor_command(_arm(simulation) + 2.0, np.zeros(14), np.zeros(14), KP, KD)
    simulation.step(0.002)
    torque = simulation.joint_state()[2][15:]
    np.testing.assert_allclose(torque[:7], [25, 25, 25, 25, 25, 13.4, 13.4])


def test_zero_gains_let_the_arm_fall_and_gravity_holds_it(simulation):
    simulation.reset(2)
    start = _arm(simulation)
    simulation.set_motor_command(start, np.zeros(14), _gravity(simulation), KP, KD)
    simulation.step(1.0)
    held = np.abs(_arm(simulation) - start).max()
    simulation.set_motor_command(start, np.zeros(14), np.zeros(14), 0 * KP, 0 * KD)
    simulation.step(0.5)
    assert held < 0.005
    assert np.abs(_arm(simulation) - start).max() > 0.3


def test_gripper_follows_its_command_and_brakes(simulation):
    simulation.reset(2)
    for _ in range(250):
        measured = simulation.gripper_state()[0]
        simulation.set_gripper_command(np.clip([1.0, 4.0], measured - 0.18, measured + 0.18))
        simulation.step(0.004)
    np.testing.assert_allclose(simulation.gripper_state()[0], [1.0, 4.0], atol=0.02)
    np.testing.assert_allclose(simulation.world().jaw_gap, np.array([1.0, 4.0]) / 60, atol=1e-3)
    simulation.set_gripper_command(np.zeros(2), brake=True)
    simulation.step(0.5)
    np.testing.assert_allclose(simulation.gripper_state()[0], [1.0, 4.0], atol=0.05)


def test_gripper_force_is_the_motor_torque_through_the_transmission(simulation):
    simulation.reset(2)
    measured = simulation.gripper_state()[0]
    simulation.set_gripper_command(measured - 0.05)
    simulation.step(0.002)
    tendon = simulation.data.actuator_force[simulation.twin.gripper_actuators]
    # Two jaws of 60 N per N.m each; torque = kp * 0.05 = 0.25 N.m.
    np.testing.assert_allclose(tendon, -2 * 60 * 0.25, rtol=0.02)


def test_step_wants_whole_physics_steps(simulation):
    for dt in (0.0, 0.001, 0.003, -0.002):
        with pytest.raises(ValueError, match='multiple'):
            simulation.step(dt)


def test_joint_state_has_the_stance_and_only_moves_the_arms(simulation):
    simulation.reset(0)
    q, dq, tau = simulation.joint_state()
    assert q.shape == dq.shape == tau.shape == (29,)
    assert q[3] == q[9] == 0.3 and not dq[:15].any() and not tau[:15].any()
