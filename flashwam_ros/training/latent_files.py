# Copyright 2026 The flashwam_ros authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot datasets with latents extracted beforehand, as LingBot-VA lays them out.

``latents/chunk-XXX/<camera>/episode_{index:06d}_{start}_{end}.pth`` holds one camera of one
`Segment`, ``empty_emb.pt`` the empty prompt.  Only tensors and plain values are ever unpickled.
Ours add ``latents/extraction.json``: codec, text encoder, cameras and stride.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from flashwam_ros.robot.contract import RobotContract
from flashwam_ros.training import lerobot_layout as layout
from flashwam_ros.training.dataset import LatentEpisode, LatentSet, PrecomputedText
from flashwam_ros.training.lerobot_meta import (
    EpisodeMeta,
    LeRobotError,
    LeRobotSet,
    Segment,
    find_sets,
    open_set,
    read_json,
)
from flashwam_ros.training.run_state import save_state
from flashwam_ros.wam.codec import IMAGES_PER_FRAME

EXTRACTION = 'latents/extraction.json'
EMPTY_TEXT = 'empty_emb.pt'


@dataclass(frozen=True)
class CameraLatents:
    """One camera of one segment.

    Attributes:
        latent: (F, h, w, z) normalised.
        frame_ids: (4 (F - 1) + 1,) frame indices of the images, in the episode.
        text: instruction.
        text_rows: (R, T) embedded instruction.
    """

    latent: torch.Tensor
    frame_ids: tuple[int, ...]
    text: str
    text_rows: torch.Tensor


def latent_path(root: Path, camera: str, episode: int, segment: Segment,
                per_chunk: int = layout.FILES_PER_CHUNK) -> Path:
    """File of one camera (a video feature) of one segment."""
    return (root / 'latents' / f'chunk-{episode // per_chunk:03d}' / camera
            / f'episode_{episode:06d}_{segment.start}_{segment.end}.pth')


def write_camera(path: Path, latents: CameraLatents, segment: Segment, image_size: tuple[int, int],
                 fps: float, source_fps: float) -> None:
    """Write one file atomically.

    Args:
        path: see ``latent_path``.
        latents: what to write; dtypes are kept.
        segment: the segment.
        image_size: (height, width) of the images that were encoded.
        fps: images per s that were encoded.
        source_fps: frames per s of the dataset.
    """
    frames, height, width, channels = latents.latent.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    save_state(path, {
        'latent': latents.latent.reshape(-1, channels).contiguous().clone(),
        'latent_num_frames': frames, 'latent_height': height, 'latent_width': width,
        'video_num_frames': len(latents.frame_ids), 'video_height': image_size[0],
        'video_width': image_size[1], 'text_emb': latents.text_rows.contiguous().clone(),
        'text': latents.text, 'frame_ids': list(latents.frame_ids),
        'start_frame': segment.start, 'end_frame': segment.end, 'fps': fps,
        'ori_fps': source_fps})


def read_camera(path: Path) -> CameraLatents:
    """Read one file.

    Raises:
        LeRobotError: missing, damaged, not finite, or its parts do not fit together.
    """
    try:
        state = torch.load(path, weights_only=True, map_location='cpu')
        shape = [int(state[f'latent_{name}']) for name in ('num_frames', 'height', 'width')]
        latent, text_rows = state['latent'], _rows(state['text_emb'])
        frame_ids = tuple(int(i) for i in state['frame_ids'])
        text = str(state['text'])
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
        raise LeRobotError(f'{path}: cannot be read: {type(error).__name__}: {error}') from error
    if latent.ndim != 2 or latent.shape[0] != int(np.prod(shape)):
        raise LeRobotError(f'{path}: latent {tuple(latent.shape)} is not (f h w, c) with f, h, w '
                           f'{shape}')
    if len(frame_ids) != 1 + IMAGES_PER_FRAME * (shape[0] - 1):
        raise LeRobotError(f'{path}: {len(frame_ids)} frame_ids for {shape[0]} latent frames')
    if not bool(torch.isfinite(latent).all()):
        raise LeRobotError(f'{path}: latents that are not finite')
    if not bool(torch.isfinite(text_rows).all()):
        raise LeRobotError(f'{path}: text_emb is not finite: remove the file and extract it again')
    return CameraLatents(latent.unflatten(0, shape), frame_ids, text, text_rows)


def _rows(embedded: torch.Tensor) -> torch.Tensor:
    """Embedded text as (R, T); other programs keep a batch axis."""
    return embedded.reshape(-1, embedded.shape[-1])


def assemble(parts: Sequence[torch.Tensor], where: object = '') -> torch.Tensor:
    """Camera latents (F, h, w, z), head first, to one canvas (F, H, W, z).

    Cameras of one size stand side by side; two of half the first one's size (the wrists of the
    T-shape) stand side by side on top of it.

    Raises:
        LeRobotError: the sizes fit neither form.
    """
    sizes = [tuple(part.shape[1:3]) for part in parts]
    if len({part.shape[0] for part in parts}) == 1:
        if len(set(sizes)) == 1:
            return torch.cat(list(parts), dim=2)
        if len(parts) == 3 and sizes[1] == sizes[2] == (sizes[0][0] // 2, sizes[0][1] // 2) \
                and 2 * sizes[1][1] == sizes[0][1]:
            return torch.cat([torch.cat(list(parts[1:]), dim=2), parts[0]], dim=1)
    raise LeRobotError(f'{where}: cameras with latents (F, h, w) '
                       f'{[tuple(part.shape[:3]) for part in parts]} are neither of one size nor '
                       'head and two half-size wrists')


def key_frame_stride(fps: float, contract: RobotContract, where: object) -> int:
    """Dataset frames from one key frame of the contract to the next.

    Raises:
        LeRobotError: the contract's key frames do not fall on the dataset's frames.
    """
    rows, rate = contract.rows_per_key_frame, contract.row_rate_hz
    exact = fps * rows / rate
    if exact < 1 or abs(exact - round(exact)) > 1e-6:
        raise LeRobotError(
            f'{where}: {fps:g} frames per s, but the contract wants a key frame every '
            f'{1000 * rows / rate:.1f} ms, which is {exact:.2f} frames')
    return round(exact)


def key_frames(segment: Segment, stride: int) -> np.ndarray:
    """Frame indices of a segment's images, 4 m + 1 of them; empty when not even m = 1 fits."""
    groups = (segment.end - 1 - segment.start) // (IMAGES_PER_FRAME * stride)
    if groups < 1:
        return np.zeros(0, int)
    return segment.start + stride * np.arange(IMAGES_PER_FRAME * groups + 1)


def slot_rows(action: np.ndarray, frame_ids: Sequence[int], rows_per_frame: int) -> np.ndarray:
    """Action rows by latent frame, (F, n, C).

    With images every ``s`` rows a latent frame spans ``4 s`` rows.  Slot 0 is a dummy of physical
    zeros; slot ``f >= 1`` holds the rows that lead from latent frame ``f - 1`` to ``f``.  Row
    ``i`` is reached one row after its image and rows are joined by lines, so where the model has
    another row rate than the dataset (``n != 4 s``) its rows are read off those lines.

    Args:
        action: (N, C) all rows of the episode.
        frame_ids: (4 (F - 1) + 1,) image indices with a constant stride ``s``.
        rows_per_frame: n.

    Raises:
        ValueError: uneven stride, or rows are lacking at the end.
    """
    ids = np.asarray(frame_ids)
    strides = set(np.diff(ids).tolist())
    if len(ids) % IMAGES_PER_FRAME != 1 or len(strides) > 1 or min(strides, default=1) < 1:
        raise ValueError(f'frame_ids must be 4 m + 1 with one stride, got {len(ids)} with '
                         f'{sorted(strides)}')
    frames = 1 + (len(ids) - 1) // IMAGES_PER_FRAME
    out = np.zeros((frames, rows_per_frame, action.shape[1]))
    if frames == 1:
        return out
    span = IMAGES_PER_FRAME * strides.pop()
    real = action[ids[0]:ids[0] + span * (frames - 1)].astype(np.float64)
    if ids[0] < 0 or len(real) != span * (frames - 1):
        raise ValueError(f'images to frame {ids[-1]}, but only {len(action)} rows')
    if rows_per_frame != span:
        end = (np.arange(rows_per_frame * (frames - 1)) + 1) * span / rows_per_frame - 1
        real = np.stack([np.interp(end, np.arange(len(real)), column) for column in real.T], 1)
    out[1:] = real.reshape(frames - 1, rows_per_frame, -1)
    return out


def load_latent_set(root: Path, contract: RobotContract, codec_hash: str | None = None,
                    named: Mapping[str, str] | None = None,
                    report: Callable[[str], None] | None = None) -> LatentSet:
    """Everything that the trainer needs of all datasets at or below a folder, in memory.

    Args:
        root: folder; every dataset below it is read.
        contract: channels, cameras (in this order), rows per latent frame and its duration.
            Latents whose extraction noted another contract are refused.
        codec_hash: refuse latents that another codec made (where the extraction noted its codec).
        named: contract camera key -> video feature, where it is not the usual name.
        report: told how many segments lack latents and are left out.

    Raises:
        LeRobotError: nothing to train on, or a file is damaged or does not fit; it is named.
    """
    episodes: list[LatentEpisode] = []
    rows: dict[str, torch.Tensor] = {}
    for folder in find_sets(root):
        dataset = open_set(folder)
        note = _extraction(dataset, contract, codec_hash)
        rows.setdefault('', _empty_text(folder, root))
        cameras = [(named or note.get('cameras', {})).get(
            camera.key, layout.IMAGE_PREFIX + camera.dataset_key) for camera in contract.cameras]
        skipped = 0
        for episode in dataset.episodes:
            kept = [segment for segment in episode.segments
                    if all(latent_path(folder, camera, episode.index, segment).is_file()
                           for camera in cameras)]
            skipped += len(episode.segments) - len(kept)
            if kept:
                episodes += _episode(dataset, episode, kept, cameras, contract, rows)
        if skipped and report is not None:
            report(f'{folder}: {skipped} segments have no latents and are left out')
    if not episodes:
        raise LeRobotError(f'{root}: no segment has latents of {cameras}: run '
                           '`flashwam extract-latents` first')
    return LatentSet(tuple(episodes), PrecomputedText(rows))


def _episode(dataset: LeRobotSet, episode: EpisodeMeta, segments: Sequence[Segment],
             cameras: Sequence[str], contract: RobotContract,
             rows: dict[str, torch.Tensor]) -> list[LatentEpisode]:
    stride = key_frame_stride(dataset.fps, contract, dataset.root / layout.INFO)
    try:
        columns = layout.channel_columns(dataset.names(layout.ACTION), contract.channel_names)
    except ValueError as error:
        raise LeRobotError(f'{dataset.root / layout.INFO}: action: {error}') from error
    action = dataset.table(episode, [layout.ACTION])[layout.ACTION][:, columns]
    if not np.isfinite(action).all():
        raise LeRobotError(f'{episode.data}: episode {episode.index}: rows that are not finite')
    out = []
    for segment in segments:
        paths = [latent_path(dataset.root, camera, episode.index, segment) for camera in cameras]
        parts = [read_camera(path) for path in paths]
        if len({part.frame_ids for part in parts}) > 1:
            raise LeRobotError(f'{paths[0]}: the cameras have different frame_ids')
        canvas = assemble([part.latent for part in parts], paths[0])
        try:
            slots = slot_rows(action[:segment.end], parts[0].frame_ids, contract.actions_per_frame)
        except ValueError as error:
            raise LeRobotError(f'{paths[0]}: {error}') from error
        _require_time_base(parts[0].frame_ids, stride, dataset.fps, paths[0])
        text = parts[0].text
        _require_text(text, segment, paths[0])
        if not torch.equal(rows.setdefault(text, parts[0].text_rows), parts[0].text_rows):
            raise LeRobotError(f'{paths[0]}: another embedding of {text!r} than in other files: '
                               'they come from different text encoders')
        latents = canvas.permute(0, 3, 1, 2).to(torch.float16).numpy()
        out.append(LatentEpisode(episode.task or text, text, episode.index,
                                 np.ascontiguousarray(latents), slots,
                                 np.zeros(len(slots), bool)))
    return out


def _require_time_base(frame_ids: Sequence[int], stride: int, fps: float, path: Path) -> None:
    """LeRobotError when the images are not ``stride`` frames apart: rows get another speed."""
    if len(frame_ids) > 1 and frame_ids[1] - frame_ids[0] != stride:
        found = frame_ids[1] - frame_ids[0]
        seconds = [IMAGES_PER_FRAME * step / fps for step in (found, stride)]
        raise LeRobotError(
            f'{path}: an image every {found} frames at {fps:g} frames per s, {seconds[0]:.3f} s '
            f'per latent frame; the contract wants one every {stride}, {seconds[1]:.3f} s: '
            "extract the latents again at the contract's rate")


def _require_text(text: str, segment: Segment, path: Path) -> None:
    """LeRobotError when the embedded text is not the segment's; blanks do not count."""
    if segment.text and text.split() != segment.text.split():
        raise LeRobotError(
            f'{path}: made for the text {text!r}, but meta/ says {segment.text!r}: extract the '
            'latents again or correct the text in meta/')


def _extraction(dataset: LeRobotSet, contract: RobotContract, codec_hash: str | None) -> dict:
    """What the extraction noted, {} where another program made the latents.

    Raises:
        LeRobotError: another codec, contract or stride.
    """
    path = dataset.root / EXTRACTION
    if not path.is_file():
        return {}
    note = read_json(path)
    expected = {'codec': codec_hash, 'contract': contract.sha256,
                'stride': key_frame_stride(dataset.fps, contract, dataset.root / layout.INFO)}
    for name, value in expected.items():
        if value is not None and note.get(name) != value:
            raise LeRobotError(f'{path}: latents of {name} {str(note.get(name))[:12]}, expected '
                               f'{str(value)[:12]}: extract them again')
    return note


def write_extraction(folder: Path, note: Mapping) -> None:
    """Note how the latents are made; the same again is nothing, another is refused.

    Raises:
        LeRobotError: the folder holds latents that were made differently.
    """
    path = folder / EXTRACTION
    if path.is_file():
        old = read_json(path)
        changed = sorted(key for key in {*old, *note} if old.get(key) != note.get(key))
        if changed:
            raise LeRobotError(f'{path}: made with another {", ".join(changed)}: choose another '
                               '--out or remove this folder')
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    part.write_text(json.dumps(dict(note), indent=1) + '\n', encoding='utf-8')
    part.replace(path)


def write_empty_text(folder: Path, rows: torch.Tensor) -> None:
    """Write the empty prompt's rows (R, T), once."""
    path = folder / EMPTY_TEXT
    if not path.is_file():
        part = path.with_name(path.name + '.part')
        torch.save(rows.contiguous().clone(), part)
        part.replace(path)


def _empty_text(folder: Path, root: Path) -> torch.Tensor:
    """The empty prompt's rows (R, T); LeRobotError naming the file otherwise."""
    places = [place / EMPTY_TEXT for place in (folder, root) if (place / EMPTY_TEXT).is_file()]
    if not places:
        raise LeRobotError(
            f'{folder / EMPTY_TEXT}: missing: the empty prompt is needed for training')
    path, todo = places[0], 'remove it and run `flashwam extract-latents` again'
    try:
        rows = _rows(torch.load(path, weights_only=True, map_location='cpu'))
        finite = bool(torch.isfinite(rows).all())
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
        raise LeRobotError(f'{path}: cannot be read: {type(error).__name__}: {error}; '
                           f'{todo}') from error
    if not finite:
        raise LeRobotError(f'{path}: the empty prompt is not finite: {todo}')
    return rows
