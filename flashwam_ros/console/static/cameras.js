// Copyright 2026 The flashwam_ros authors. SPDX-License-Identifier: Apache-2.0
// Camera pictures with their age; the next one is asked for when the last one was drawn.

import { Link, Transit } from './link.js';
import { find, make, seconds, words, write } from './dom.js';

const HEAD_BYTES = 24;
const PAUSE_MS = 45;
const LONGEST_PAUSE_MS = 200;
const SHARE = 4;

export class Cameras {
  constructor(keys, staleS) {
    this.staleS = staleS;
    this.transit = new Transit();
    this.views = keys.map((key) => {
      const canvas = make('canvas', { width: 320, height: 240 });
      const note = make('div', { className: 'note' });
      const age = make('span');
      const figure = make('figure', { className: 'stale' }, canvas, note,
        make('figcaption', {}, make('span', { textContent: words(key) }), age));
      figure.dataset.camera = key;
      find('cameras').append(figure);
      return { key, canvas, note, age, figure, drawn: null, frames: 0 };
    });
    this.link = new Link('/ws/video', {
      open: () => { this.transit.reset(); this.views.forEach((view) => this.ask(view)); },
      message: (data) => this.show(data),
    });
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.views.forEach((view) => this.ask(view));
    });
  }
  ask(view) { this.link.send(view.key); }
  async show(data) {
    const begun = performance.now();
    const head = new DataView(data, 0, HEAD_BYTES);
    const view = this.views[head.getUint8(0)];
    const [atMs, ageS] = [head.getFloat64(8, true), head.getFloat64(16, true)];
    this.transit.note(atMs);
    try {
      const picture = await createImageBitmap(new Blob([data.slice(HEAD_BYTES)], { type: 'image/jpeg' }));
      if (view.canvas.width !== picture.width || view.canvas.height !== picture.height) {
        view.canvas.width = picture.width;
        view.canvas.height = picture.height;
      }
      view.canvas.getContext('2d').drawImage(picture, 0, 0);
      picture.close();
      view.drawn = { atMs, ageS };
      view.frames += 1;
    } catch (error) {
      write(view.note, 'a picture that cannot be read');
    }
    // On a machine that is slow at drawing, pictures must leave room for everything else.
    const wanted = SHARE * (performance.now() - begun);
    const pause = Math.min(Math.max(PAUSE_MS, wanted), LONGEST_PAUSE_MS);
    if (!document.hidden) setTimeout(() => this.ask(view), pause);
  }
  tick(snapshot) {
    for (const view of this.views) {
      const age = view.drawn && this.transit.age(view.drawn.atMs, view.drawn.ageS);
      const stale = age === null || age > this.staleS;
      view.figure.classList.toggle('stale', stale);
      write(view.note, age === null ? 'no picture yet' : stale ? `no new picture for ${seconds(age)}` : '');
      const rate = snapshot?.parts[`camera ${view.key}`]?.[1].rate_hz;
      write(view.age, age === null ? '' : stale ? `${seconds(age)} old`
        : `${Math.round(age * 1000)} ms old${rate ? `, ${Math.round(rate)} Hz` : ''}`);
    }
  }
}
