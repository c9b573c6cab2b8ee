"""Models of the Hugging Face hub: whether its cache on this machine has one, what is missing of it,
and the download of that."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .shape import folder_of

OTHER_FORMS = ("*/*", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.pt", "*.pth", "*.tflite")
"""Files that hold the weights a second time, in a form that no engine here loads by a model id."""
PICKLED = "*.bin"
"""Weights of older models; nothing but a second copy beside safetensors."""
WITHIN_S = 20
"""Seconds in which the hub has to answer what it knows of a model."""
_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_OF_SHARDS = re.compile(r"-of-(\d+)\.")


class NotToBeHad(Exception):
    """A model that is neither here nor to be downloaded, in a sentence that says what to do."""


def is_id(model: str) -> bool:
    """Whether a text names a model of the hub, and no folder or file of this machine."""
    local = model.endswith(".gguf") or Path(model).is_dir()
    return _ID.fullmatch(model) is not None and not local


class NoAnswer(NotToBeHad):
    """The hub does not answer, or may not be asked: nor would it for another model.

    Attributes:
        why: the end of the sentence, which is that of every model.
    """

    def __init__(self, model: str, why: str) -> None:
        super().__init__(f"{model} is not in the hub's cache on this machine, and {why}")
        self.why = why


class Hub:
    """The hub, and its cache on this machine."""

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE)

    def free_bytes(self) -> int:
        """Free space where the cache is."""
        there = next(path for path in (self.cache, *self.cache.parents) if path.exists())
        return shutil.disk_usage(there).free

    def holds(self, model: str) -> bool:
        """Whether the cache has a model's configuration and all files of its weights. Asks nobody.

        Args:
            model: a model id.
        """
        folder = folder_of(model)
        if folder is None:
            return False
        weights = [*folder.glob("*.safetensors")] or [*folder.glob(PICKLED)]
        there = [file for file in weights if file.is_file()]  # a link may lead nowhere
        shards = [int(m[1]) for file in weights if (m := _OF_SHARDS.search(file.name))]
        return len(there) >= max([1, *shards])

    def missing_bytes(self, model: str) -> int:
        """Size of what has to be downloaded of a model. Its ``config.json`` is fetched, some
        kilobytes, which shows that the rest may be fetched, too.

        Args:
            model: a model id.

        Raises:
            NotToBeHad: it does not exist or is gated; NoAnswer: the hub does not answer.
        """
        from huggingface_hub import HfApi

        with _told(model):
            hub = HfApi()
            # This first: where the hub is not reached, it says so at once.
            files = hub.model_info(model, files_metadata=True, timeout=WITHIN_S).siblings or []
            config = hub.hf_hub_download(model, "config.json")
        left_out = _left_out([file.rfilename for file in files])
        return sum(
            file.size or 0
            for file in files
            if not any(fnmatch(file.rfilename, each) for each in left_out)
            and not Path(config).with_name(file.rfilename).is_file()
        )

    def fetch(self, model: str, fetched: Callable[[float], None]) -> None:
        """Download what the cache lacks of a model.

        Args:
            model: a model id.
            fetched: told how many bytes came so far.

        Raises:
            NotToBeHad: it does not exist, is gated, or the download failed.
        """
        from huggingface_hub import HfApi

        with _told(model):
            hub = HfApi()
            names = hub.list_repo_files(model)
            hub.snapshot_download(
                model, ignore_patterns=_left_out(names), tqdm_class=_progress(fetched)
            )


def _left_out(names: Sequence[str]) -> list[str]:
    """Patterns of files that are not downloaded."""
    safe = any(fnmatch(name, "*.safetensors") for name in names if "/" not in name)
    return [*OTHER_FORMS, *([PICKLED] if safe else [])]


@contextmanager
def _told(model: str) -> Iterator[None]:
    """Errors of the hub's client as sentences."""
    from huggingface_hub import constants, errors

    try:
        if constants.HF_HUB_OFFLINE:
            raise NoAnswer(
                model,
                "HF_HUB_OFFLINE forbids to download it: unset that, or download it once where that "
                "is allowed",
            )
        yield
    except errors.LocalEntryNotFoundError as error:  # the client's name of "no answer"
        raise _no_answer(model, error.__cause__ or error) from error
    except errors.GatedRepoError as error:
        raise NotToBeHad(
            f"{model} is gated: accept its licence at https://huggingface.co/{model}, and log in "
            "with 'hf auth login' or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotToBeHad(
            f"there is no model {model} on the Hugging Face hub, or it is private: correct the id, "
            "or set HF_TOKEN to a token that may read it"
        ) from error
    except errors.EntryNotFoundError as error:
        raise NotToBeHad(
            f"{model} on the Hugging Face hub has no config.json: name a checkpoint that engines "
            "load"
        ) from error
    except NotToBeHad:
        raise
    except Exception as error:
        raise _no_answer(model, error) from error


def _no_answer(model: str, error: BaseException) -> NoAnswer:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return NoAnswer(
        model,
        f"could not be downloaded ({reason}): look whether this machine reaches the hub, or name a "
        "folder with the checkpoint",
    )


def _progress(fetched: Callable[[float], None]) -> type[Any]:
    """A progress bar that shows nothing, and tells how many bytes the client counted.

    The client has several bars, of files and of bytes as they come and as they are written: of
    those of bytes the furthest is told.
    """
    from tqdm.auto import tqdm

    most = 0.0

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **{**more, "file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal most
            shown: bool | None = super().update(n)
            if self.unit == "B":
                most = max(most, self.n)
                fetched(most)
            return shown

    return Bar
