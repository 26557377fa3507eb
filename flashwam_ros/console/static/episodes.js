// Copyright 2026 The flashwam_ros authors. SPDX-License-Identifier: Apache-2.0
// The list of recorded episodes with quality, pictures and labels.

import { post } from './link.js';
import { chip, find, make, onPress, words, write } from './dom.js';

const LABELS = ['keep', 'discard', 'success', 'failure', 'undo'];
const LEVEL = { green: 'good', amber: 'warn', red: 'bad' };

export class Episodes {
  constructor(tell) {
    Object.assign(this, { tell, rows: [], cards: new Map(), busy: false });
  }

  async load() {
    if (this.busy) return;
    this.busy = true;
    try {
      const answer = await (await fetch('/api/episodes', { signal: AbortSignal.timeout(15000) })).json();
      this.rows = answer.episodes;
      this.show(answer.total);
    } catch (error) {
      // The connection is down, which the page says; the list stays as it was.
    } finally {
      this.busy = false;
    }
  }

  async label(name, label) {
    const operator = find('operator').value;
    const answer = await post(`/api/episodes/${encodeURIComponent(name)}/label`, { label, operator }, 15000);
    await this.load();
    return answer;
  }

  show(total) {
    const left = total - this.rows.length;
    write(find('count'), total ? `${total}${left > 0 ? `, the newest ${this.rows.length} shown` : ''}` : 'none yet');
    const names = this.rows.map((row) => row.name);
    for (const [name, card] of this.cards) if (!names.includes(name)) { card.root.remove(); this.cards.delete(name); }
    this.rows.forEach((row, index) => {
      if (!this.cards.has(row.name)) this.cards.set(row.name, this.card(row.name));
      const card = this.cards.get(row.name);
      if (find('list').children[index] !== card.root) find('list').insertBefore(card.root, find('list').children[index] ?? null);
      fill(card, row);
    });
  }

  card(name) {
    const image = make('img', { alt: 'begin, middle and end', loading: 'lazy', hidden: true });
    // A picture that did not come is asked for again with the next list.
    image.addEventListener('error', () => { image.hidden = true; });
    const picture = make('button', { type: 'button', title: 'Contact sheet' }, image);
    picture.addEventListener('click', () => sheet(name));
    const badge = make('span', { className: 'chip' });
    const outcome = make('span', { className: 'chip' });
    const disposition = make('span', { className: 'chip' });
    const text = make('p');
    const why = make('p', { className: 'quiet' });
    const buttons = LABELS.map((label) => {
      const button = make('button', { type: 'button', textContent: words(label) });
      onPress(button, () => this.label(name, label), this.tell);
      return button;
    });
    const root = make('article', { className: 'episode' }, picture, make('div', { className: 'body' },
      badge, ' ', outcome, ' ', disposition, text, why, make('div', { className: 'row' }, ...buttons)));
    root.dataset.episode = name;
    return { root, image, badge, outcome, disposition, text, why, buttons };
  }
}

function fill(card, row) {
  const scored = row.score !== null;
  chip(card.badge, scored ? `quality ${Math.round(row.score)}` : row.state, LEVEL[row.level] ?? '');
  chip(card.outcome, row.outcome, row.outcome === 'success' ? 'good' : 'bad');
  card.outcome.hidden = !row.outcome;
  chip(card.disposition, { keep: 'kept', discard: 'discarded' }[row.disposition] ?? '', '');
  card.disposition.hidden = !row.disposition;
  card.root.classList.toggle('discard', row.disposition === 'discard');
  const when = row.began ? new Date(row.began).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' }) : '';
  write(card.text, [words(row.task), row.kind, when, row.seconds ? `${row.seconds} s` : ''].filter(Boolean).join(' · '));
  write(card.why, row.findings.length ? row.findings.join('; ') : row.reason);
  if (row.picture && card.image.hidden) {
    card.image.src = `/api/episodes/${encodeURIComponent(row.name)}/thumbnail.jpg`;
    card.image.hidden = false;
  }
  card.buttons.forEach((button) => { button.disabled = row.state === 'recording'; });
}

function sheet(name) {
  const dialog = find('sheet');
  dialog.querySelector('img').src = `/api/episodes/${encodeURIComponent(name)}/sheet.jpg`;
  // Not modal: a modal dialog takes the clicks from everything else, STOP among it.
  dialog.show();
}
