// Copyright 2026 The flashwam_ros authors. SPDX-License-Identifier: Apache-2.0
// Small helpers for elements of the page.

export const find = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Written only when it changes: ten times a second, untouched text costs nothing.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function chip(element, text, kind = '') {
  write(element, text);
  element.className = `chip ${kind}`;
}

export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  return value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
}

export const words = (name) => name.replaceAll('_', ' ');

// A button that waits for its answer and shows what went wrong.
export function onPress(button, act, tell) {
  button.addEventListener('click', async () => {
    if (button.classList.contains('busy')) return;
    button.classList.add('busy');
    const answer = await act();
    button.classList.remove('busy');
    if (answer) tell(answer);
  });
}
