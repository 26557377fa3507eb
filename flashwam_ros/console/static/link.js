// Copyright 2026 The flashwam_ros authors. SPDX-License-Identifier: Apache-2.0
// Connections that come back by themselves, and the true age of what they bring.

const RETRY_MS = [200, 400, 800, 1500, 2000];
const KEPT = 300;

export function url(path) {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${path}`;
}

// Ages on our clock: the quickest message seen of late counts as one that took no time, so that
// what was stuck on the way is shown as old as it is.
export class Transit {
  constructor() { this.reset(); }
  reset() { this.offsets = []; this.best = null; }
  note(serverMs) {
    this.offsets.push(performance.now() - serverMs);
    if (this.offsets.length > KEPT) this.offsets.shift();
    this.best = Math.min(...this.offsets);
  }
  // Seconds since something that was ageS old when the server said so at serverMs.
  age(serverMs, ageS) { return ageS + (performance.now() - serverMs - this.best) / 1000; }
}

export class Link {
  constructor(path, { open = () => {}, message = () => {} } = {}) {
    Object.assign(this, { path, open, message, socket: null, tries: 0, timer: 0 });
    this.connect();
  }
  get ready() { return this.socket !== null && this.socket.readyState === WebSocket.OPEN; }
  connect() {
    clearTimeout(this.timer);
    const socket = new WebSocket(url(this.path));
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    socket.onopen = () => { if (this.socket === socket) { this.tries = 0; this.open(); } };
    socket.onmessage = (event) => { if (this.socket === socket) this.message(event.data); };
    socket.onclose = () => { if (this.socket === socket) this.later(); };
  }
  later() {
    this.socket = null;
    clearTimeout(this.timer);
    const wait = RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)];
    this.timer = setTimeout(() => this.connect(), wait);
  }
  // A connection that says nothing is dropped without waiting for the other side.
  drop() {
    const socket = this.socket;
    if (socket) { this.later(); socket.close(); }
  }
  send(text) {
    if (this.ready) this.socket.send(text);
    return this.ready;
  }
  // What still waits here to be sent (bytes).
  get waiting() { return this.ready ? this.socket.bufferedAmount : 0; }
}

const LIMIT_MS = 90000;

// One request; the answer is always {ok, message}, also when nobody answers.
export async function post(path, values = {}, limitMs = LIMIT_MS) {
  try {
    const response = await fetch(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(values),
      signal: AbortSignal.timeout(limitMs),
    });
    return response.headers.get('content-type')?.includes('json')
      ? await response.json()
      : { ok: false, message: (await response.text()).slice(0, 300) };
  } catch (error) {
    return { ok: false, message: 'no answer: the connection to the console is down', down: true };
  }
}
