// Copyright 2026 The flashwam_ros authors. SPDX-License-Identifier: Apache-2.0
// Teleoperation: keys, pads (mouse, touch) and gamepads into the commands of teleop/web.py.
//
// Nothing moves unless something is held: the space key, a pad, a grip button or the pad's shoulder.
// Whatever is held is let go when the page loses focus or the connection. Nothing counts as held
// while the connection is slow or a contact sheet lies over the cameras.

import { Link, post } from './link.js';
import { find, onPress, write } from './dom.js';

const PERIOD_MS = 40;
const MOST_WAITING = 2000;
const MOVES = {
  KeyW: ['x', 1], KeyS: ['x', -1], KeyA: ['y', 1], KeyD: ['y', -1], KeyR: ['z', 1], KeyF: ['z', -1],
  KeyJ: ['yaw', 1], KeyL: ['yaw', -1], KeyK: ['pitch', 1], KeyI: ['pitch', -1],
  KeyO: ['roll', 1], KeyU: ['roll', -1],
};
const LINEAR = ['x', 'y', 'z'];
const ANGULAR = ['roll', 'pitch', 'yaw'];
const ARMS = { Digit1: 'left', Digit2: 'right', Digit3: 'both' };
const OTHERS = ['Space', 'ShiftLeft', 'ShiftRight', 'KeyN', 'KeyM', 'KeyH', 'KeyP'];
// Positive x of a pad is right on the screen, positive y up; left is positive on the robot.
const PAD_SIGN = { y: -1, yaw: -1, x: 1, z: 1 };
const DEADZONE = 0.1;
const SLEPT_MS = 1000;

const clamp = (value) => Math.max(-1, Math.min(1, value));
const past = (value) => (Math.abs(value) < DEADZONE ? 0 : value);

export class Drive {
  constructor(about, tell) {
    Object.assign(this, { about, tell, on: false, arm: 'right', paused: false, seq: 0 });
    Object.assign(this, { slow: false, anew: true, ahead: null });
    this.client = newClient();
    this.keys = new Set();
    this.pads = new Map();
    this.holds = new Set();
    this.buttons = {};
    this.link = new Link('/ws/teleop', { open: () => this.letGo() });
    this.wire();
    setInterval(() => this.send(), PERIOD_MS);
  }

  wire() {
    find('drive').hidden = false;
    window.addEventListener('keydown', (event) => this.key(event, true));
    window.addEventListener('keyup', (event) => this.key(event, false));
    window.addEventListener('blur', () => this.letGo());
    document.addEventListener('visibilitychange', () => { if (document.hidden) this.letGo(); });
    document.addEventListener('focusin', (event) => { if (typing(event.target)) this.letGo(); });
    find('driving').addEventListener('click', () => this.turn(!this.on));
    find('pause').addEventListener('click', () => this.pause(!this.paused));
    for (const button of find('arms').children) {
      button.addEventListener('click', () => this.choose(button.dataset.arm));
    }
    for (const pad of document.querySelectorAll('.pad')) this.wirePad(pad);
    for (const button of document.querySelectorAll('[data-hold]')) this.wireHold(button);
    onPress(find('engage'), () => post('/api/do/engage'), this.tell);
    onPress(find('release'), () => post('/api/do/release'), this.tell);
    this.choose(this.arm);
    this.turn(false);
  }

  turn(on) {
    this.on = on;
    this.letGo();
    document.body.classList.toggle('driving', on);
    find('driving').setAttribute('aria-pressed', on);
    write(find('driving'), on ? 'Driving from this page' : 'Drive from this page');
    find('driving').blur();
  }
  choose(arm) {
    if (this.arm !== arm) this.letGo();
    this.arm = arm;
    for (const button of find('arms').children) {
      button.setAttribute('aria-pressed', button.dataset.arm === arm);
      button.blur();
    }
  }
  pause(paused) {
    this.paused = paused;
    find('pause').setAttribute('aria-pressed', paused);
    find('pause').blur();
  }

  // ---- what is held ----

  letGo() {
    this.anew = true;
    this.keys.clear();
    this.holds.clear();
    for (const pad of this.pads.keys()) centre(pad);
    this.pads.clear();
    document.querySelectorAll('.held, kbd.down').forEach((part) => part.classList.remove('held', 'down'));
  }

  key(event, down) {
    const known = event.code in MOVES || event.code in ARMS || OTHERS.includes(event.code);
    if (!known || typing(event.target)) return;
    if (!this.on || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const shown = document.querySelector(`[data-key="${event.code.replace('ShiftRight', 'ShiftLeft')}"]`);
    shown?.classList.toggle('down', down);
    if (!down) { this.keys.delete(event.code); return; }
    if (event.repeat) return;
    this.keys.add(event.code);
    if (event.code in ARMS) this.choose(ARMS[event.code]);
    if (event.code === 'KeyP') this.pause(!this.paused);
  }

  wirePad(pad) {
    const move = (event) => {
      const box = pad.getBoundingClientRect();
      const x = clamp(((event.clientX - box.left) / box.width - 0.5) * 2.4);
      const y = clamp((0.5 - (event.clientY - box.top) / box.height) * 2.4);
      this.pads.set(pad, { [pad.dataset.x]: PAD_SIGN[pad.dataset.x] * past(x), [pad.dataset.y]: past(y) });
      pad.lastElementChild.style.transform = `translate(${x * 36}%, ${-y * 36}%) translate(${x * 60}%, ${-y * 60}%)`;
    };
    const end = () => { this.pads.delete(pad); pad.classList.remove('held'); centre(pad); };
    pad.addEventListener('pointerdown', (event) => {
      if (!this.on) { this.tell({ ok: false, message: 'Press "Drive from this page" first.' }); return; }
      event.preventDefault();
      pad.setPointerCapture(event.pointerId);
      pad.classList.add('held');
      move(event);
    });
    pad.addEventListener('pointermove', (event) => { if (this.pads.has(pad)) move(event); });
    for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) pad.addEventListener(name, end);
  }

  wireHold(button) {
    const end = () => { this.holds.delete(button.dataset.hold); button.classList.remove('held'); };
    button.addEventListener('pointerdown', (event) => {
      if (!this.on) { this.tell({ ok: false, message: 'Press "Drive from this page" first.' }); return; }
      button.setPointerCapture(event.pointerId);
      this.holds.add(button.dataset.hold);
      button.classList.add('held');
    });
    for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) button.addEventListener(name, end);
    button.addEventListener('contextmenu', (event) => event.preventDefault());
  }

  // A gamepad that the browser knows the layout of; the same meaning as in config/teleop/joy.yaml.
  gamepad() {
    const pad = [...(navigator.getGamepads?.() ?? [])].find((one) => one?.connected && one.mapping === 'standard');
    if (!pad) { this.buttons = {}; return null; }
    const pressed = (index) => Boolean(pad.buttons[index]?.pressed);
    const once = (name, index) => {
      const now = pressed(index);
      const fresh = now && this.buttons[name] === false;
      this.buttons[name] = now;
      return fresh;
    };
    // What it held when everything was let go counts only after it was let go there, too.
    this.anew &&= pressed(5) || pressed(3);
    if (once('pause', 9)) this.pause(!this.paused);
    if (once('select', 8)) this.choose({ left: 'right', right: 'both', both: 'left' }[this.arm]);
    return {
      clutch: pressed(5) && !this.anew, slow: pressed(4), home: pressed(3) && !this.anew, opening: pressed(1) - pressed(0),
      axes: {
        x: -past(pad.axes[1]), y: -past(pad.axes[0]), z: -past(pad.axes[3]), yaw: -past(pad.axes[2]),
        pitch: pressed(12) - pressed(13), roll: pressed(15) - pressed(14),
      },
    };
  }

  // ---- the command ----

  command() {
    const has = (code) => this.keys.has(code);
    const pad = this.gamepad();
    const axes = { x: 0, y: 0, z: 0, roll: 0, pitch: 0, yaw: 0 };
    const add = (more) => { for (const [name, value] of Object.entries(more)) axes[name] = clamp(axes[name] + value); };
    for (const [code, [axis, sign]] of Object.entries(MOVES)) if (has(code)) add({ [axis]: sign });
    this.pads.forEach(add);
    if (pad) add(pad.axes);
    const slow = has('ShiftLeft') || has('ShiftRight') || pad?.slow;
    const opening = has('KeyM') - has('KeyN') + this.holds.has('open') - this.holds.has('close') + (pad?.opening ?? 0);
    const gripping = this.holds.has('open') || this.holds.has('close');
    return {
      clutch: has('Space') || this.pads.size > 0 || gripping || Boolean(pad?.clutch),
      home: has('KeyH') || this.holds.has('home') || Boolean(pad?.home),
      axes, opening: clamp(opening), factor: slow ? this.about.speeds.slow : 1,
    };
  }

  // The clock of the commands stands still while the computer sleeps, so that all later ones would
  // count as late for good: a new name starts anew. A slow connection cannot bring this about.
  noticeSleep() {
    const ahead = Date.now() - performance.now();
    if (this.ahead !== null && Math.abs(ahead - this.ahead) > SLEPT_MS) {
      this.letGo();
      this.client = newClient();
    }
    this.ahead = ahead;
  }

  text() {
    this.noticeSleep();
    if (this.slow || find('sheet').open) this.letGo();
    const { clutch, home, axes, opening, factor } = this.command();
    const { speeds } = this.about;
    const twist = [
      ...LINEAR.map((name) => axes[name] * speeds.linear * factor),
      ...ANGULAR.map((name) => axes[name] * speeds.angular * factor),
    ];
    const arms = {};
    for (const side of this.arm === 'both' ? ['left', 'right'] : [this.arm]) {
      arms[side] = { clutch: clutch && !home, twist, opening_rate: opening * speeds.opening };
    }
    return JSON.stringify({
      v: 1, client: this.client, seq: this.seq++, sent_ms: performance.now(), home, pause: this.paused, arms,
    });
  }

  send() {
    if (!this.on) return;
    // A command that would wait here is an old one when it arrives: better none.
    if (this.link.waiting < MOST_WAITING) this.link.send(this.text());
  }
}

function newClient() { return `page-${Math.random().toString(36).slice(2, 10)}`; }
function centre(pad) { pad.lastElementChild.style.transform = ''; }
function typing(target) {
  return target instanceof Element && target.matches('textarea, select, input:not([type=range])');
}
