# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the arms do when something breaks: every fault on a running rollout, judged on the wire.

Run: ``python benchmarks/faults.py [--only NAME ...] [--out FOLDER] [--docs docs/faults.md]``

For each fault the real graph is started on domains and ports of its own (twin, driver, camera,
policy: scripted expert, rollout), a rollout begins, and 2 s after the first row, as soon as the
arms move, the fault is injected. A passive reader of the robot's wire records every command until
the arms have been given back. Exit code 0: every fault ended as expected. A pass is: weight 0 at
the end and then silence, no command beyond the limits of position and velocity, the named reason,
no retreat where it is forbidden.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _fault_analysis as analysis  # noqa: E402
from benchmarks._fault_catalogue import FAULTS, Fault, Relay, Session  # noqa: E402
from benchmarks._stack import (  # noqa: E402
    Place,
    Stack,
    StackError,
    end_on_sigterm,
    header,
    say,
)
from benchmarks._wire import WireRecorder  # noqa: E402
from flashwam_ros.bringup.graph import Graph  # noqa: E402
from flashwam_ros.robot.contract import RobotContract  # noqa: E402
from flashwam_ros.wire.sim_bus import SimBus, SimulatorTimeoutError  # noqa: E402

TASK, SEED = 'pot_potato', 10_000
BEFORE_S = 2.0
MOVING_RAD_S = 0.5
MOVING_WITHIN_S = 10.0
AFTER_S = 2.0
LONGEST_S = 60.0
FRAME_PERIOD_S = 0.2
TRIES = 3
RESULT_S = 45.0
MARKS = ('<!-- begin: benchmarks/faults.py -->', '<!-- end: benchmarks/faults.py -->')


def _changed(graph: Graph, relays: bool) -> Graph:
    """Patience with late pictures, which the expert does not look at; a relay if wanted."""
    from benchmarks._listener import RELAYED

    policy = graph['policy']
    policy = replace(
        policy,
        parameters=(*policy.parameters, ('frame_period', FRAME_PERIOD_S)),
        remappings=(('action_chunk', RELAYED),) if relays else (),
    )
    return Graph(tuple(policy if p.name == 'policy' else p for p in graph.processes))


def run(fault: Fault, out: Path, place: Place, seed: int = SEED) -> dict:
    """Run one fault; leaves `NAME.json`, `.npz`, `.png` and a log in `out`."""
    head = header(1)
    rollouts = out / 'rollouts' / fault.name
    values = {
        'task': TASK, 'policy': 'expert', 'execution': 'async', 'seed': str(seed),
        'output_dir': str(rollouts),
    }  # fmt: skip
    log = out / f'{fault.name}.log'
    with Stack(values, place, log, lambda graph: _changed(graph, fault.relays)) as stack:
        recorder, sim = WireRecorder(place.unitree_domain), SimBus(place.unitree_domain, 'lo')
        try:
            session = Session(stack, sim)
            _prepare(session, fault)
            running = stack.start_goal(
                task=TASK, prompt='', seed=seed, time_limit=0.0, execution='async'
            )
            fault_ns = _break(session, fault, running, recorder)
            _watch(stack, recorder, fault_ns)
            end_s = (time.monotonic_ns() - fault_ns) * 1e-9
            _await_result(stack, running)
            state = sim.state() or {}
        finally:
            recorder.close()
            sim.close()
    trace = analysis.select(recorder.trace(fault_ns), fault.intrudes)
    statuses = [((h.at_ns - fault_ns) * 1e-9, h.msg) for h in stack.listener.driver]
    modes = [(round(at, 3), msg.mode) for at, msg in statuses]
    later = [msg for at, msg in statuses if at > 0]
    result = {
        'fault': fault.name,
        'what': fault.what,
        'header': head,
        'seed': seed,
        'goes_on': fault.goes_on,
        'reason': _reason(stack, later),
        'twin_weight': state.get('weight'),
        'real_time_factor': state.get('real_time_factor_episode'),
        'rollout': _verdict(running.result, rollouts),
        'events': list(dict.fromkeys(text for msg in later for text in msg.events)),
        'policy_said': list(dict.fromkeys(
            h.msg.reason for h in stack.listener.policy if h.at_ns > fault_ns and h.msg.reason)),
        'exit_codes': stack.supervisor.exit_codes,
        'end_s': end_s,
        'heard_until_s': modes[-1][0],
        **analysis.timing(trace, modes, end_s),
        **analysis.motion(trace),
        'modes': _changes(modes),
    }  # fmt: skip
    result['problems'] = judge(fault, result)
    _write(out, fault.name, trace, result)
    return result


def attempt(fault: Fault, out: Path, place: Place, seed: int) -> list[str]:
    """Run one fault; once more where a busy machine ended the rollout before it was broken."""
    problems = []
    for _ in range(TRIES):
        try:
            return run(fault, out, place, seed)['problems']
        except (StackError, SimulatorTimeoutError, ValueError) as error:
            problems = [f'not measured: {error}']
            say(f'{fault.name}: {error}')
    return problems


def _prepare(session: Session, fault: Fault) -> None:
    listener = session.stack.listener
    if fault.relays:
        session.relay = Relay()
        session.relay.publisher = listener.relay(session.relay)
    if fault.sends:
        session.chunks = listener.chunk_publisher()


def _break(session: Session, fault: Fault, running, recorder: WireRecorder) -> int:
    """Inject the fault while the arms move; returns when (monotonic ns)."""
    stack = session.stack

    def executing() -> bool:
        if running.result is not None:
            raise StackError(f'the rollout is over already: {running.result.reason}')
        return stack.listener.mode() == 'EXECUTE'

    stack.until(executing, 120.0, 'the first row')
    begun = time.monotonic()
    stack.until(lambda: time.monotonic() - begun > BEFORE_S, 2 * BEFORE_S, 'executing')
    stack.until(
        lambda: executing() and recorder.last_speed > MOVING_RAD_S, MOVING_WITHIN_S, 'moving'
    )
    return fault.inject(session)


def _watch(stack: Stack, recorder: WireRecorder, fault_ns: int) -> None:
    """Until the weight is 0 and the wire has been silent, or everything has ended."""
    while (now_ns := time.monotonic_ns()) < fault_ns + LONGEST_S * 1e9:
        silent_s = (now_ns - max(recorder.last_command_ns, fault_ns)) * 1e-9
        if silent_s > AFTER_S and recorder.last_weight == 0.0:
            return
        if stack.supervisor.wait(0.0) and silent_s > AFTER_S:
            return
        time.sleep(0.05)


def _await_result(stack: Stack, running) -> None:
    end = time.monotonic() + RESULT_S
    while running.result is None and time.monotonic() < end and not stack.supervisor.wait(0.05):
        pass


def _reason(stack: Stack, later: list) -> str:
    reasons = [msg.reason for msg in later if msg.reason]
    if reasons:
        return reasons[0]
    return 'flashwam release' if stack.said('released: the weight is 0') else ''


def _verdict(result, rollouts: Path) -> str:
    """Of the action's result, or of the summary on disk where the action's server had to stop."""
    if result is not None:
        return f'{result.verdict}: {result.reason}'
    found = sorted(rollouts.glob('*/summary.json'), key=lambda path: path.stat().st_mtime)
    if not found:
        return '-'
    summary = json.loads(found[-1].read_text(encoding='utf-8'))
    return f'{summary["verdict"]}: {summary["reason"]}'


def _changes(modes: list[tuple[float, str]]) -> list[tuple[float, str]]:
    return [m for i, m in enumerate(modes) if i == 0 or modes[i - 1][1] != m[1]]


def judge(fault: Fault, result: dict) -> list[str]:
    """What is not as it must be."""
    limit = float(RobotContract.load().velocity[: analysis.ARMS].max())
    reason = result['reason'].split(':')[0].lower()
    checks = [
        (result['final_weight'] == 0.0, f'final weight {result["final_weight"]:.2f}'),
        (result['twin_weight'] in (0.0, None), f'weight at the robot {result["twin_weight"]}'),
        (result['to_silence_s'] is not None, 'still writing at the end'),
        (result['speed'] <= limit * analysis.SPEED_TOLERANCE, f'speed {result["speed"]:.2f}'),
        (result['declared_speed'] <= limit + 1e-3, f'dq {result["declared_speed"]:.3f}'),
        (result['outside_limits'] < 1e-4, f'{result["outside_limits"]:.4f} rad outside limits'),
        (reason in fault.reasons, f'reason {reason!r}'),
        (fault.retreat in (None, result['retreat']), f'retreat {result["retreat"]}'),
        (not fault.event or any(fault.event in e for e in result['events']),
         f'no event {fault.event!r}'),
    ]  # fmt: skip
    return [text for good, text in checks if not good]


def _write(out: Path, name: str, trace, result: dict) -> None:
    trace.save(out / f'{name}.npz')
    analysis.draw(out / f'{name}.png', trace, result)
    text = json.dumps(result, indent=1, default=float)
    (out / f'{name}.json').write_text(text + '\n', encoding='utf-8')


def report(out: Path, docs: Path | None) -> None:
    """Table and montage of everything in `out`; into the page `docs` between its marks."""
    results = analysis.read_results(out, [fault.name for fault in FAULTS])
    if not results:
        return
    text = analysis.markdown(results)
    (out / 'faults.md').write_text(text, encoding='utf-8')
    analysis.montage(out / 'faults.png', results, out)
    if docs is None:
        return
    page = docs.read_text(encoding='utf-8')
    before, _, rest = page.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    docs.write_text(f'{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}', encoding='utf-8')
    picture = docs.parent / 'images' / 'faults.png'
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes((out / 'faults.png').read_bytes())


def main() -> int:
    """Run the chosen faults and report on all that are in the output folder."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    names = [fault.name for fault in FAULTS]
    parser.add_argument('--only', nargs='+', choices=names, default=names, metavar='NAME',
                        help=f'some of: {", ".join(names)}')
    parser.add_argument('--out', type=Path, default=Path('~/.cache/flashwam/faults').expanduser())
    parser.add_argument('--docs', type=Path, help='page that receives table and picture')
    parser.add_argument('--report-only', action='store_true', help='run nothing, write the report')
    parser.add_argument('--seed', type=int, default=SEED)
    parser.add_argument('--ros-domain', type=int, default=40, help='first of one per fault')
    parser.add_argument('--unitree-domain', type=int, default=70, help='first of one per fault')
    parser.add_argument('--port', type=int, default=21000, help='first of four per fault')
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end_on_sigterm()
    failed = []
    for number, fault in enumerate(FAULTS):
        if options.report_only or fault.name not in options.only:
            continue
        # Domains of their own: a writer that was killed stays in DDS discovery for seconds.
        place = Place(options.ros_domain + number, options.unitree_domain + number,
                      options.port + 4 * number)  # fmt: skip
        begun = time.monotonic()
        problems = attempt(fault, options.out, place, options.seed)
        failed += [fault.name] if problems else []
        say(f'{fault.name:<20}{"; ".join(problems) or "as expected"} '
            f'({time.monotonic() - begun:.0f} s)')  # fmt: skip
    report(options.out, options.docs)
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
