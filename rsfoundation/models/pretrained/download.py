"""From the name of a checkpoint to a file on disk: cache folder, download with resume, hash check."""

import hashlib
import logging
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

from mmengine.logging import print_log

from rsfoundation.core.errors import CheckpointError
from rsfoundation.models.pretrained.catalogue import WEIGHTS, Weights, find_weights

CACHE_VARIABLE = "RSF_WEIGHTS"
_FILES_OF_A_FOLDER = ("model.safetensors", "pytorch_model.bin")
_BLOCK = 1 << 20
_TIMEOUT_S = 30
_SECONDS_BETWEEN_LINES = 5.0


def cache_folder() -> Path:
    """Return where checkpoints are kept: ``$RSF_WEIGHTS``, else a folder in the user's cache."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rsfoundation" / "weights"


def resolve(checkpoint: str) -> Path:
    """Return the file of a checkpoint, downloading it on first use.

    Args:
        checkpoint: A local file, a folder of Hugging Face, an ``http(s)`` or ``file`` link, or a name of
            :data:`rsfoundation.models.pretrained.catalogue.WEIGHTS`.

    Raises:
        CheckpointError: It does not exist, cannot be fetched, or has another hash than published.
    """
    local = Path(checkpoint).expanduser()
    if local.is_file():
        return local
    for name in _FILES_OF_A_FOLDER:
        if (local / name).is_file():
            return local / name
    if urlparse(checkpoint).scheme in ("http", "https", "file"):
        return _resolve_link(checkpoint)
    if "/" in checkpoint or local.suffix in (".pth", ".pt", ".tar"):
        raise CheckpointError(f"the checkpoint {checkpoint!r} does not exist", where="init_cfg.checkpoint")
    return _resolve_entry(find_weights(checkpoint))


def _resolve_link(url: str) -> Path:
    known = [weights for weights in WEIGHTS.values() if weights.url == url]
    if known:
        return _resolve_entry(known[0])
    target = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:12] / Path(urlparse(url).path).name
    return target if target.is_file() else download(url, target)


def _resolve_entry(weights: Weights) -> Path:
    target = cache_folder() / f"{weights.name}.pth"
    print_log(f"weights {weights.name}: licence {weights.licence}; {weights.page}", logger="current")
    if target.is_file():
        check_hash(target, weights.sha256)
        return target
    if weights.url is None:
        raise CheckpointError(
            f"the weights {weights.name!r} have no direct link",
            where=weights.page,
            fix=f"download them by hand from the page's drive link and save them as {target}",
        )
    return download(weights.url, target, weights.sha256)


def check_hash(path: Path, sha256: str) -> None:
    """Compare a file with the leading digits of its SHA-256 that are known.

    Args:
        path: The file.
        sha256: Leading hexadecimal digits.

    Raises:
        CheckpointError: They differ.
    """
    if not sha256:
        return
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    if not digest.hexdigest().startswith(sha256.lower()):
        raise CheckpointError(
            f"the file has SHA-256 {digest.hexdigest()[:16]}..., published is {sha256}",
            where=path,
            fix="delete it and load again; if that does not help, do not use it",
        )


def download(url: str, target: Path, sha256: str = "") -> Path:
    """Download a file, continuing one that was broken off, and check it before it gets its name.

    Args:
        url: Where from.
        target: Where to; the unfinished file next to it ends in ``.part``.
        sha256: Known leading digits of its SHA-256.

    Returns:
        ``target``.

    Raises:
        CheckpointError: The server does not give the file, or the hash differs (the file is removed).
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    print_log(f"downloading {url} to {target}", logger="current")
    try:
        _fetch(url, part)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be fetched ({error})",
            where=url,
            fix=f"try again (it continues), or fetch it elsewhere and save it as {target}",
        ) from error
    try:
        check_hash(part, sha256)
    except CheckpointError:
        part.unlink()
        raise
    return part.replace(target)


def _fetch(url: str, part: Path) -> None:
    """Append to ``part`` what is missing of it; start over where the server cannot continue."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={done}-"} if done else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing
            return
        raise
    with response:
        continued = getattr(response, "status", None) == 206
        done = done if continued else 0
        total = done + int(response.headers.get("Content-Length") or 0)
        said = time.monotonic()
        with part.open("ab" if continued else "wb") as stream:
            while block := response.read(_BLOCK):
                stream.write(block)
                done += len(block)
                if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    print_log(f"{done >> 20} of {total >> 20} MiB", logger="current", level=logging.INFO)
    if total and done < total:
        raise ConnectionError(f"broken off after {done} of {total} bytes")
