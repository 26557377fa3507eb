// Copyright 2026 The flashwam_ros authors. SPDX-License-Identifier: Apache-2.0
// Puts the page together. Every tenth of a second it asks for a snapshot and tells all ages anew.

import { Link, Transit, post } from './link.js';
import { find, make, onPress, seconds, words, write } from './dom.js';
import { Cameras } from './cameras.js';
import { Drive } from './drive.js';
import { Episodes } from './episodes.js';
import * as panels from './panels.js';

const ASK_MS = 100;
const HIDDEN_MS = 1000;
const LOST_S = 1.0;
const DROP_S = 2.5;
// There and back. Slower than this, letting go would act too late; a quick link over half the
// world takes 0.3 s.
const SLOW_MS = 500;
const TRIPS = 5;
const STOP_MS = 1500;
const DOUBLE_MS = 350;
const LIST_MS = 10000;
const TOLD_MS = 8000;

const transit = new Transit();
let about = null;
let snapshot = null;
let heard = performance.now();
let told = { text: '', until: 0 };
let stopped = -DOUBLE_MS;
let episode = '';
let lostSince = null;
let asked = 0;
let trouble = '';
const trips = [];
let cameras, drive, episodes, joints, state;

function tell(answer) {
  if (answer.ok && !answer.message) return;
  told = { text: answer.ok ? '' : answer.message, until: performance.now() + TOLD_MS };
}

// ---- STOP ----

async function stop() {
  // A double press is one press: the second one would let go of the arms.
  if (performance.now() - stopped < DOUBLE_MS) return;
  stopped = performance.now();
  const sent = post('/api/do/stop', {}, STOP_MS);
  drive?.letGo();
  const answer = await sent;
  if (!answer.ok) tell({ ok: false, message: `STOP DID NOT GET THROUGH (${answer.message}). Use the robot's remote.` });
}

function stopButton(driver) {
  const held = driver && driver.stopped && driver.mode === 'HOLD';
  write(find('stop').lastElementChild, held ? 'press again: let go of the arms' : 'hold at once');
}

// ---- the state ----

function ask() {
  asked = performance.now();
  state.send('next');
}

function show(text) {
  snapshot = JSON.parse(text);
  heard = performance.now();
  trips.push(heard - asked);
  if (trips.length > TRIPS) trips.shift();
  transit.note(snapshot.t_ms);
  draw();
  setTimeout(ask, document.hidden ? HIDDEN_MS : ASK_MS);
}

const ageOf = (name) => (snapshot?.parts[name] ? transit.age(snapshot.t_ms, snapshot.parts[name][0]) : null);
const valueOf = (name) => snapshot?.parts[name]?.[1];

function draw() {
  const { parts } = snapshot;
  if (parts.driver) panels.driver(parts.driver[1]);
  stopButton(parts.driver?.[1]);
  panels.facts(parts);
  joints.show(valueOf('joints'), ageOf('commands') < about.stale_s.commands ? valueOf('commands') : null);
  if (parts.teleop) panels.teleop(parts.teleop[1], drive?.on);
  if (parts.recorder) recorder(parts.recorder[1]);
  if (parts.twin) panels.twin(parts.twin[1]);
}

function recorder(value) {
  panels.recorder(value);
  const closing = value.state === 'closing';
  const on = closing || value.state === 'recording';
  const name = value.episode.split('/').at(-1).replace(/\.mcap(\.part)?$/, '');
  if (name !== episode || on !== find('record').disabled) episodes.load();
  episode = name;
  find('record').disabled = on;
  find('end').disabled = !on || closing || value.kind !== 'manual';
  for (const button of document.querySelectorAll('#recorder [data-label]')) {
    const both = button.dataset.label === 'keep' || button.dataset.label === 'discard';
    button.disabled = !episode || closing || (on && !(both && value.kind === 'manual'));
  }
}

// Ages grow without any message: what was shown as live a moment ago greys out by itself.
function tick() {
  const silent = (performance.now() - heard) / 1000;
  if (!state) {
    if (about === null && silent > LOST_S) trouble = `The console has not answered for ${seconds(silent)}: nothing but STOP can work yet.`;
    banner('', trouble);
    return;
  }
  for (const part of document.querySelectorAll('[data-part]')) {
    const name = part.dataset.part;
    const age = ageOf(name);
    const stale = age === null || age > about.stale_s[name];
    part.classList.toggle('stale', stale);
    const note = part.querySelector('.age');
    if (note) write(note, age === null ? 'nothing heard yet' : stale ? `${seconds(age)} old` : '');
  }
  const age = ageOf('teleop');
  const old = age !== null && age > about.stale_s.teleop;
  write(document.querySelector('#drive .age'), old ? `${seconds(age)} old` : '');
  find('drive-state').classList.toggle('quiet', old);
  cameras.tick(snapshot);
  panels.chunkLine(valueOf('chunks') ?? [], ageOf('chunks') ?? 0);
  connection(silent);
}

function connection(silent) {
  const lost = silent > LOST_S;
  // What is held now must not count when the connection comes back.
  if (lost) drive?.letGo();
  // One answer may be late; a connection is slow when none of the last ones came in time.
  const trip = Math.min(...trips);
  const slow = trips.length === TRIPS && trip > SLOW_MS;
  if (drive) drive.slow = slow;
  const chip = find('connection');
  chip.className = `chip ${lost ? 'bad' : 'good'}`;
  write(chip, lost ? 'not connected' : about.robot === 'twin' ? 'simulated robot' : 'robot');
  if (silent > DROP_S) {
    heard = performance.now() - DROP_S * 500;
    for (const link of [state, cameras.link, drive?.link]) link?.drop();
    lostSince ??= performance.now() - silent * 1000;
  } else if (!lost) lostSince = null;
  const since = lostSince === null ? silent : (performance.now() - lostSince) / 1000;
  const text = lost || lostSince !== null
    ? `No connection for ${seconds(since)}: everything here is old, and nothing that you press arrives. The robot's remote stops it.`
    : '';
  banner(text, slow ? `The connection takes ${seconds(trip / 1000)} there and back: what is shown is late, and nothing can be driven.` : trouble);
}

function banner(urgent, lasting) {
  const text = urgent || (performance.now() < told.until && told.text) || lasting;
  find('banner').hidden = !text;
  write(find('banner'), text);
}

// ---- reset ----

function reset() {
  find('steps').replaceChildren(...about.reset.steps.map((text) => make('li', { textContent: text })));
  const seeded = about.reset.seeded;
  const seed = find('seed');
  const show = (id, is) => { find(id).hidden = !is; };
  show('seed-field', seeded);
  show('next-seed', seeded);
  show('reset-scene', seeded && about.device !== '');
  show('keep-picture', !seeded);
  show('ready', !seeded && about.device === '');
  const overlay = make('img', { alt: '', hidden: true, className: 'overlay' });
  document.querySelector('figure').insertBefore(overlay, document.querySelector('figure .note'));
  const toggle = find('overlay');
  const on = () => toggle.getAttribute('aria-pressed') === 'true';
  const place = () => {
    overlay.hidden = !on();
    overlay.style.opacity = find('strength').value / 100;
    const source = `/api/reset.jpg?seed=${Number(seed.value) || 0}`;
    if (on() && !overlay.src.endsWith(source)) { write(find('reset-state'), 'fetching the reset picture'); overlay.src = source; }
  };
  overlay.addEventListener('load', () => write(find('reset-state'), ''));
  overlay.addEventListener('error', async () => {
    const answer = await fetch(overlay.src).then((one) => one.text(), () => 'no connection');
    write(find('reset-state'), `No reset picture: ${answer.slice(0, 200)}`);
    overlay.hidden = true;
  });
  toggle.addEventListener('click', () => { toggle.setAttribute('aria-pressed', !on()); toggle.blur(); place(); });
  find('strength').addEventListener('input', place);
  seed.addEventListener('change', place);
  find('next-seed').addEventListener('click', () => { seed.value = Number(seed.value) + 1; place(); });
  onPress(find('reset-scene'), () => post('/api/do/reset', { seed: Number(seed.value) || 0 }), tell);
  onPress(find('ready'), () => post('/api/do/ready'), tell);
  onPress(find('keep-picture'), async () => {
    const answer = await post('/api/reset.jpg');
    overlay.removeAttribute('src');
    place();
    return answer;
  }, tell);
}

// ---- recording ----

function remembered(name) {
  // Not where the browser keeps no data of this page.
  try { return localStorage.getItem(name) ?? ''; } catch (error) { return ''; }
}

function remember(name, value) {
  try { localStorage.setItem(name, value); } catch (error) { /* see above */ }
}

function recording() {
  find('prompt').value = about.prompt;
  find('operator').value = remembered('operator');
  find('operator').addEventListener('change', () => remember('operator', find('operator').value));
  const operator = () => find('operator').value;
  onPress(find('record'), () => post('/api/do/record', { prompt: find('prompt').value, operator: operator() }), tell);
  onPress(find('end'), () => post('/api/do/end'), tell);
  for (const button of document.querySelectorAll('#recorder [data-label]')) {
    const { label } = button.dataset;
    onPress(button, async () => {
      const on = valueOf('recorder')?.state === 'recording';
      if (on) return post(`/api/do/${label}`, { operator: operator() });
      return episodes.label(episode, label);
    }, tell);
  }
}

async function prepare() {
  while (about === null) {
    try {
      about = await (await fetch('/api/about', { signal: AbortSignal.timeout(5000) })).json();
    } catch (error) {
      await new Promise((done) => { setTimeout(done, 1000); });
    }
  }
  heard = performance.now();
  trouble = '';
  write(find('task'), words(about.task));
  find('study').hidden = !about.study_url;
  if (about.study_url) find('study').href = about.study_url;
  cameras = new Cameras(about.cameras, about.stale_s.camera);
  joints = new panels.Joints(about.channels);
  episodes = new Episodes(tell);
  reset();
  recording();
  state = new Link('/ws/state', { open: () => { transit.reset(); ask(); episodes.load(); }, message: show });
  // Last: nobody drives from a page that is not whole.
  if (about.device === 'web') drive = new Drive(about, tell);
  setInterval(() => { if (!document.hidden) episodes.load(); }, LIST_MS);
  window.console_page = { age: ageOf, value: valueOf, drive, cameras };
}

async function start() {
  // STOP first: it waits for nothing, and nothing that fails below takes it away.
  find('stop').addEventListener('click', stop);
  window.addEventListener('keydown', (event) => {
    if (event.code !== 'Escape' || event.repeat) return;
    event.preventDefault();
    stop();
    find('sheet').close();
  });
  setInterval(tick, 100);
  try {
    await prepare();
  } catch (error) {
    trouble = `This page did not get ready (${error.message}): STOP works, do not drive from it. Load it again.`;
  }
}

start();
