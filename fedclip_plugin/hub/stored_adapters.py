"""From an adapter's place to its folder: a folder here, or a repository of the hub that was fetched before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedclip_edge.arguments import as_path
from fedclip_plugin.errors import AdapterFileError, HubError

ADAPTER_FILES = ("adapter.json", "adapter.safetensors", "recipe.yaml", "README.md")
"""What a repository of an adapter holds; nothing else of it is fetched."""

_ADDRESS = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?", re.ASCII)
_FOLDER = "give the folder of an adapter, such as runs/NAME/adapters/best"


@dataclass(frozen=True)
class Repository:
    """A repository of the hub, ``owner/name``, and a branch, tag or commit of it; None is its main branch."""

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Repository | None:
        """Read ``owner/name`` or ``owner/name@revision``; None when it is neither."""
        found = _ADDRESS.fullmatch(text)
        return cls(found[1], found[2]) if found else None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def require_repository(text: str) -> Repository:
    """Read a repository's name.

    Raises
    ------
    HubError
        When it is none.
    """
    repository = Repository.parse(text)
    if repository is None:
        raise HubError(f"{text!r} is no name of a repository: give OWNER/NAME, or OWNER/NAME@REVISION")
    return repository


def find_adapter(place: str | Path) -> Path:
    """Return an adapter's folder, without a network.

    Parameters
    ----------
    place
        A folder, which always wins, or ``owner/name`` or ``owner/name@revision`` of the hub, which :func:`pull_adapter`
        has fetched.

    Raises
    ------
    AdapterFileError
        When it is no path, or there is no such folder, and nothing of that name was fetched.
    """
    folder, repository = as_path(place, "the adapter", AdapterFileError), Repository.parse(str(place))
    if repository is None or folder.exists():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository.name,
            revision=repository.revision,
            local_files_only=True,
            allow_patterns=list(ADAPTER_FILES),
        )
    except (HFValidationError, LocalEntryNotFoundError, FileNotFoundError) as error:
        raise AdapterFileError(
            f"{place} is no folder here, and no adapter that this machine has fetched from the hub; nothing is "
            f"downloaded unasked: {_FOLDER}, or fetch it with: fedclip pull {place}"
        ) from error
    return Path(found)


def pull_adapter(name: str) -> Path:
    """Fetch an adapter from the hub into this machine's hub cache, and return its folder there.

    Parameters
    ----------
    name
        ``owner/name``, or ``owner/name@revision``.

    Raises
    ------
    HubError
        When the hub does not answer or refuses, or has no such adapter.
    """
    from huggingface_hub import HfApi, snapshot_download

    repository = require_repository(name)
    with asking_hub(repository.name):
        # Asked first, since a download that fails is content with what an earlier one left.
        info = HfApi(library_name="fedclip").model_info(repository.name, revision=repository.revision)
        there = {file.rfilename for file in info.siblings or ()}
        if missing := sorted({"adapter.json", "adapter.safetensors"} - there):
            raise HubError(f"{repository} holds no {' and no '.join(missing)}: it is no repository of an adapter")
        patterns = list(ADAPTER_FILES)
        return Path(snapshot_download(repository.name, revision=repository.revision, allow_patterns=patterns))


@contextmanager
def asking_hub(repository: str) -> Iterator[None]:
    """Turn whatever the hub's library raises into a HubError that says what to do."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HubError:
        raise
    except OfflineModeIsEnabled as error:
        raise HubError("HF_HUB_OFFLINE is set, and this command needs the hub: unset it for this one call") from error
    except HFValidationError as error:
        raise HubError(f"{repository!r} is no name of a repository: {error}; give OWNER/NAME") from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repository} has no such revision: give a branch, a tag or a commit that it has") from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        told = (error.server_message or str(error)).splitlines()[0]
        if isinstance(error, RepositoryNotFoundError) or code in (401, 403, 404):
            raise HubError(
                f"the hub refuses {repository} ({code}: {told}): check the name, and that you may do this there; who "
                "you are says HF_TOKEN, or 'hf auth login'"
            ) from error
        raise HubError(f"the hub refuses {repository} ({code}: {told}): try again later") from error
    except Exception as error:  # of the libraries below: no connection, a time-out, a full disk
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise HubError(f"{repository}: the hub cannot be used: {told}; mend that, and try again") from error
