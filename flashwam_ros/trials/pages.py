# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One list of blocks, written as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; max-width: 1060px; margin: 2em auto;
       padding: 0 1em }
table { border-collapse: collapse; font-size: 13px; margin: 1em 0 }
th, td { padding: 3px 10px; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
th { background: #f4f4f2 } h1 { font-size: 24px } h2 { font-size: 18px; margin-top: 2em }
img, svg { max-width: 100%; height: auto } .wide { overflow-x: auto }
"""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells; without rows it is left out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Picture:
    """A file beside the page: SVG goes into the HTML as it is, others as data."""

    path: Path
    caption: str


Block = Heading | Paragraph | Table | Picture


def markdown(blocks: Sequence[Block]) -> str:
    """As Markdown; pictures are named relative to the page."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            lines += ['#' * block.level + ' ' + block.text, '']
        elif isinstance(block, Paragraph):
            lines += [block.text, '']
        elif isinstance(block, Picture):
            lines += [f'![{block.caption}]({block.path.name})', '']
        elif block.rows:
            rows = [block.columns, ['---'] * len(block.columns), *block.rows]
            lines += ['| ' + ' | '.join(_cell(c) for c in row) + ' |' for row in rows]
            lines.append('')
    return '\n'.join(lines).rstrip() + '\n'


def _cell(value: object) -> str:
    return str(value).replace('|', '\\|').replace('\n', ' ')


def html(blocks: Sequence[Block], title: str) -> str:
    """As one HTML page that needs no other file."""
    body = '\n'.join(filter(None, map(_html, blocks)))
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
            f'<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n')


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f'<h{block.level}>{escape(block.text)}</h{block.level}>'
    if isinstance(block, Paragraph):
        return f'<p>{escape(block.text)}</p>'
    if isinstance(block, Picture):
        return f'<p class="wide">{_picture(block)}<br><small>{escape(block.caption)}</small></p>'
    if not block.rows:
        return ''
    head = ''.join(f'<th>{escape(str(c))}</th>' for c in block.columns)
    rows = ''.join('<tr>' + ''.join(f'<td>{escape(str(c))}</td>' for c in row) + '</tr>'
                   for row in block.rows)
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _picture(block: Picture) -> str:
    if block.path.suffix == '.svg':
        return block.path.read_text(encoding='utf-8')
    data = base64.b64encode(block.path.read_bytes()).decode()
    return f'<img alt="{escape(block.caption)}" src="data:image/jpeg;base64,{data}">'
