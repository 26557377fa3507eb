// Copyright 2026 The flashwam_ros authors. SPDX-License-Identifier: Apache-2.0
// Driver, joints, chunk line, recorder, twin: drawn from the newest snapshot.

import { chip, find, make, seconds, words, write } from './dom.js';

const SPAN_S = 8;
const FINDINGS = 5;
const MODES = { PASSIVE: '', ENGAGE: 'on', HOLD: 'on', EXECUTE: 'good', RETREAT: 'on', RELEASE: 'on' };
const MEANS = {
  PASSIVE: 'the robot\'s own controller has the arms', ENGAGE: 'taking the arms over',
  HOLD: 'holding still', EXECUTE: 'moving', RETREAT: 'going back to the rest pose', RELEASE: 'letting go',
};
const ms = (value) => `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;

export function driver(value) {
  chip(find('mode'), value.mode, value.stopped ? 'bad' : MODES[value.mode] ?? '');
  const why = value.stopped ? 'STOP was pressed' : value.reason;
  write(find('reason'), `${MEANS[value.mode] ?? ''}${why ? `: ${why}` : ''}`);
}

export function facts(parts) {
  const driverPart = parts.driver?.[1];
  const robot = parts.robot?.[1] ?? {};
  const rows = {};
  if (driverPart) {
    rows['authority'] = `${Math.round(driverPart.weight * 100)} %`;
    rows['tick lateness p99'] = ms(driverPart.lateness_p99_s);
    rows['tracking error'] = `${driverPart.tracking_error_rad.toFixed(3)} rad`;
    rows['limiter at work'] = `${driverPart.limited_ticks} ticks`;
  }
  if (parts.policy) rows['policy'] = [parts.policy[1].state, parts.policy[1].reason].filter(Boolean).join(': ');
  if (robot['hottest winding C']) rows['hottest motor'] = `${robot['hottest winding C']} °C`;
  if (robot['motor errors'] && robot['motor errors'] !== '{}') rows['motor errors'] = robot['motor errors'];
  if (robot.problem) rows['problem'] = robot.problem;
  const list = find('facts');
  if (list.dataset.names !== Object.keys(rows).join()) {
    list.dataset.names = Object.keys(rows).join();
    list.replaceChildren(...Object.keys(rows).map((name) => make('div', {}, make('dt', { textContent: name }), make('dd'))));
  }
  Object.values(rows).forEach((text, index) => write(list.children[index].lastElementChild, text));
}

export function twin(value) {
  find('twin').hidden = false;
  const stages = Object.entries(value.stages).map(([name, reached]) => `${reached ? '✓' : '·'} ${words(name)}`);
  const verdict = value.success ? 'solved' : value.failure ? `failed: ${words(value.failure)}` : 'not solved yet';
  write(find('twin'), `Simulated scene, seed ${value.seed}: ${verdict} (${stages.join('  ')})`);
}

export class Joints {
  constructor(channels) {
    this.channels = channels;
    const order = [0, 1].flatMap((side) => channels.map((_, index) => index).filter((index) => sideOf(channels[index]) === side));
    this.rows = [];
    const columns = [0, 1].map((side) => order.filter((index) => sideOf(channels[index]) === side));
    const list = [];
    for (let row = 0; row < columns[0].length; row++) columns.forEach((column) => list.push(column[row]));
    const phone = window.matchMedia('(max-width: 900px)').matches;
    for (const index of phone ? order : list) {
      const fill = make('span', { className: 'fill' });
      const tick = make('span', { className: 'tick' });
      const number = make('output');
      this.rows[index] = { fill, tick, number };
      const name = words(channels[index].name.replace(/_joint$/, ''));
      find('bars').append(make('div', { className: 'bar' }, make('span', { textContent: name }), make('div', {}, fill, tick), number));
    }
  }
  show(measured, commanded) {
    this.channels.forEach((channel, index) => {
      const { fill, tick, number } = this.rows[index];
      const at = (value) => `${100 * Math.max(0, Math.min(1, (value - channel.lower) / (channel.upper - channel.lower)))}%`;
      const value = measured?.[index] ?? null;
      fill.hidden = value === null;
      if (value !== null) fill.style.left = at(value);
      const order = commanded?.[index] ?? null;
      tick.hidden = order === null;
      if (order !== null) tick.style.left = at(order);
      const gripper = channel.name.includes('gripper');
      write(number, value === null ? '?' : gripper
        ? `${Math.round(100 * (value - channel.lower) / (channel.upper - channel.lower))} %` : value.toFixed(2));
    });
  }
}

const sideOf = (channel) => (channel.name.startsWith('left') ? 0 : 1);

export function chunkLine(bars, ageS) {
  const canvas = find('line');
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, 96];
  if (canvas.width !== Math.round(width * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const span = SPAN_S + 1.5;
  const x = (ago) => width * (1 - (ago + ageS + 1.5) / span);
  pen.font = '11px system-ui, sans-serif';
  pen.fillStyle = colour('quiet');
  pen.strokeStyle = colour('rule');
  for (let ago = 0; ago <= SPAN_S; ago += 1) {
    const at = Math.round(width * (1 - (ago + 1.5) / span)) + 0.5;
    pen.beginPath(); pen.moveTo(at, 0); pen.lineTo(at, 78); pen.stroke();
    if (ago % 2 === 0) pen.fillText(ago ? `-${ago} s` : 'now', at + 3, 92);
  }
  for (const bar of bars) {
    const start = bar.start === null ? null : x(bar.start);
    if (bar.arrival !== null) {
      pen.fillStyle = colour('quiet');
      pen.fillRect(x(bar.arrival), 20, Math.max(2, (start ?? x(-ageS)) - x(bar.arrival)), 2);
    }
    if (start === null) continue;
    const late = bar.slack !== null && bar.slack < 0;
    const length = Math.max(2, width * bar.duration / span - 1);
    pen.fillStyle = colour(late ? 'bad' : 'accent');
    pen.fillRect(start, 34, length, 30);
    if (bar.limited) { pen.fillStyle = colour('warn'); pen.fillRect(start, 34, length, 6); }
    if (length > 22) { pen.fillStyle = '#fff'; pen.fillText(bar.index, start + 4, 57); }
  }
  const slack = bars.map((bar) => bar.slack).filter((value) => value !== null);
  const late = slack.filter((value) => value < 0).length;
  write(find('slack'), !bars.length ? 'No chunk in the last seconds.' : slack.length
    ? `Slack of the last chunk ${ms(slack.at(-1))}, least ${ms(Math.min(...slack))}; ${late} of ${slack.length} late`
    : 'First chunk.');
}

const LINK = { live: 'good', stale: 'warn', lost: 'bad', waiting: '' };

export function teleop(value, on) {
  const held = Object.entries(value.held ?? {}).filter(([, is]) => is).map(([side]) => side);
  const quick = value.latency_ms?.p50;
  const text = [
    `${value.state}, link ${value.link ?? '-'}`,
    held.length ? `${held.join(' and ')} hand follows` : on ? 'hold space, a pad or a grip button to move' : '',
    quick ? `${Math.round(quick)} ms to the arm` : '', value.note,
    on && value.refused_command ? `refused: ${value.refused_command}` : '',
  ];
  write(find('drive-state'), text.filter(Boolean).join(' · '));
  find('drive-state').dataset.link = LINK[value.link] ?? '';
}

export function recorder(value) {
  const level = { green: 'good', amber: 'warn', red: 'bad' }[value.level] ?? '';
  const on = value.state === 'recording';
  chip(find('rec-state'), on ? 'recording' : value.state, on ? 'bad' : value.state === 'error' ? 'warn' : '');
  const dropped = Object.values(value.dropped ?? {}).reduce((sum, count) => sum + count, 0);
  write(find('rec-text'), [
    value.episode ? seconds(value.seconds) : '', value.score === null ? '' : `quality ${value.score}`,
    dropped ? `${dropped} messages dropped` : '', on ? '' : value.reason, `${(value.free / 1e9).toFixed(0)} GB free`,
  ].filter(Boolean).join(' · '));
  find('rec-text').className = level;
  const findings = find('findings');
  const key = JSON.stringify(value.findings);
  if (findings.dataset.key !== key) {
    findings.dataset.key = key;
    const texts = (value.findings ?? []).slice(0, FINDINGS);
    const more = (value.findings ?? []).length - texts.length;
    if (more > 0) texts.push(`and ${more} more`);
    findings.replaceChildren(...texts.map((text) => make('li', { textContent: text })));
  }
}
